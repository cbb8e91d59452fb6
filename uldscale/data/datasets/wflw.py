"""WFLW: 7,500 training and 2,500 test faces with 98 points and a face box each; a photograph may show several faces.

    WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_train.txt and ..._test.txt
    WFLW_images/

A line is x and y of 98 points, x0 y0 x1 y1 of the box, six attributes (pose, expression, illumination, make-up, occlusion, blur; 0 or 1)
and the image. Source: W. Wu et al., "Look at Boundary", CVPR 2018; wywu.github.io/projects/LAB/WFLW.html.
"""

from uldscale.data.datasets.lists import Splits, find, ids_with_repeats, read_lines
from uldscale.data.datasets.points import landmarks, numbers
from uldscale.data.sources import Record, locate
from uldscale.errors import DataError

NUM_POINTS = 98
_FOLDER = "WFLW_annotations/list_98pt_rect_attr_train_test"
_WORDS = 2 * NUM_POINTS + 4 + 6 + 1


def read_wflw(root: str) -> Splits:
    """Records of both splits with the face box of the lists; the second face of a photograph has "#2" in its id.

    Raises DataError when a list or the image folder is missing, or a line has another number of words.
    """
    images = find(root, "WFLW_images")
    return {"train": _read_list(root, "train", images), "test": _read_list(root, "test", images)}


def _read_list(root: str, split: str, images: str) -> list[Record]:
    name = f"list_98pt_rect_attr_{split}.txt"
    path = find(root, f"{_FOLDER}/{name}", f"WFLW_annotations/{name}", name)
    lines = read_lines(path)
    for number, words in lines:
        if len(words) != _WORDS:
            got = f"got {len(words)} words, wanted {_WORDS}"
            raise DataError(f"{path} line {number}: {got}: 98 points, a box, 6 attributes and the image")
    ids = ids_with_repeats([words[-1] for _, words in lines])
    return [
        _parse(id, locate(images, words[-1], f"{path} line {number}"), words, f"{path} line {number}")
        for id, (number, words) in zip(ids, lines, strict=True)
    ]


def _parse(id: str, uri: str, words: list[str], place: str) -> Record:
    try:
        points = landmarks(numbers(words[: 2 * NUM_POINTS], place), place)
        x0, y0, x1, y1 = landmarks(numbers(words[2 * NUM_POINTS : 2 * NUM_POINTS + 4], place), place).ravel().tolist()
    except DataError as problem:
        return Record(id, uri, broken=str(problem))
    return Record(id, uri, landmarks=points, box=(x0, y0, x1, y1))
