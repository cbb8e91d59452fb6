"""CelebA with the MAFL lists: trained on CelebA, judged on MAFL, five points (eyes, nose, mouth corners).

    list_eval_partition.txt                                        here or in Eval/
    list_landmarks_align_celeba.txt or list_landmarks_celeba.txt   here or in Anno/
    training.txt, testing.txt                                      here or in MAFL/
    img_align_celeba, img_align_celeba_hq or img_celeba            here or in Img/

Sources: Z. Liu et al., "Deep Learning Face Attributes in the Wild", ICCV 2015; Z. Zhang et al., "Facial Landmark Detection by Deep
Multi-task Learning", ECCV 2014. The archive celeba.zip at robots.ox.ac.uk/~vgg/research/unsupervised_landmarks holds all of it.
"""

from collections.abc import Collection
from dataclasses import dataclass

from uldscale import files
from uldscale.data.datasets.lists import Splits, find, read_lines, read_names
from uldscale.data.datasets.points import Landmarks, landmarks, numbers
from uldscale.data.sources import Box, Record, ids_of, locate
from uldscale.errors import DataError

ALIGNED = (178, 218)
"""Width and height of the aligned images, in whose pixels their landmarks are."""
_ALIGNED_FOLDERS = ("img_align_celeba", "Img/img_align_celeba", "Img/img_align_celeba_hq", "img_align_celeba_hq")
_WILD_FOLDERS = ("img_celeba", "Img/img_celeba")

_Rows = dict[str, tuple[str, list[str]]]
"""By image: the place in the file, and the words after the name."""


def read_celeba(root: str) -> Splits:
    """Records of both splits; test: the 1,000 images of MAFL's test list, with landmarks.

    train: images of CelebA's own training partition that are not in the test list (161,962, as KeypointsToLandmarks has), and those
    MAFL training images that are in another partition (3,539). Only the 19,000 MAFL training images carry landmarks: the evaluation
    fits its regressor on training images that have some, so on exactly these. Aligned images are taken when they are there, else the
    originals, with the face box of list_bbox_celeba.txt when that is there. Raises DataError when a list is missing or malformed.
    """
    fitted = set(read_names(find(root, "MAFL/training.txt", "training.txt")))
    judged = set(read_names(find(root, "MAFL/testing.txt", "testing.txt")))
    if both := sorted(fitted & judged):
        raise DataError(f"{root}: {both[0]} is in MAFL's training list and in its test list; get both lists anew")
    trained = (_partition(root) | fitted) - judged
    source = _Source.of(root, fitted | judged)
    names = sorted(trained | judged)
    records = {name: source.record(id, name) for id, name in zip(ids_of(names), names, strict=True)}
    return {"train": [records[name] for name in sorted(trained)], "test": [records[name] for name in sorted(judged)]}


@dataclass(frozen=True)
class _Source:
    """Aligned or original images with their annotations."""

    images: str
    annotated: frozenset[str]
    path: str
    points: _Rows
    boxes: _Rows
    extent: tuple[int, int] | None

    @classmethod
    def of(cls, root: str, annotated: Collection[str]) -> "_Source":
        images = find(root, *_ALIGNED_FOLDERS, *_WILD_FOLDERS)
        aligned = "align" in images.rpartition("/")[2]
        name = "list_landmarks_align_celeba.txt" if aligned else "list_landmarks_celeba.txt"
        path = find(root, name, f"Anno/{name}")
        points = _rows(path, 10, annotated)
        return cls(
            images, frozenset(annotated), path, points, {} if aligned else _boxes(root), ALIGNED if aligned else None
        )

    def record(self, id: str, name: str) -> Record:
        uri = locate(self.images, name, self.path)
        try:
            points = self._points(name) if name in self.annotated else None
            return Record(id, uri, landmarks=points, box=self._box(name), extent=self.extent)
        except DataError as problem:
            return Record(id, uri, broken=str(problem))

    def _points(self, name: str) -> Landmarks:
        if name not in self.points:
            raise DataError(f"{self.path} has no landmarks of {name}")
        place, words = self.points[name]
        return landmarks(numbers(words, place), place)

    def _box(self, name: str) -> Box | None:
        if name not in self.boxes:
            return None
        place, words = self.boxes[name]
        x, y, width, height = landmarks(numbers(words, place), place).ravel().tolist()
        return x, y, x + width, y + height


def _partition(root: str) -> set[str]:
    """Images of CelebA's training partition."""
    path = find(root, "list_eval_partition.txt", "Eval/list_eval_partition.txt")
    trained = set()
    for number, words in read_lines(path):
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            got = f"got {' '.join(words)!r:.60}"
            raise DataError(f"{path} line {number}: {got}, wanted an image and 0 (train), 1 (validation) or 2 (test)")
        if words[1] == "0":
            trained.add(words[0])
    return trained


def _boxes(root: str) -> _Rows:
    name = "list_bbox_celeba.txt"
    places = [files.join(root, place) for place in (name, f"Anno/{name}")]
    return next((_rows(path, 4, None) for path in places if files.exists(path)), {})


def _rows(path: str, count: int, wanted: Collection[str] | None) -> _Rows:
    """Words of the wanted images, or of all, in a list that begins with their number and the names of its columns."""
    rows: _Rows = {}
    for number, words in read_lines(path, skip=2):
        place = f"{path} line {number}"
        if len(words) != 1 + count:
            raise DataError(f"{place}: got {len(words)} words, wanted an image and {count} numbers")
        if wanted is None or words[0] in wanted:
            rows[words[0]] = place, words[1:]
    return rows
