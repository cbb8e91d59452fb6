"""The CAT data set: some 10,000 cats with 9 points, in <name>.jpg.cat beside each <name>.jpg, in any folders.

Points: left eye, right eye, mouth, then three of the left and three of the right ear. Source: W. Zhang, J. Sun, X. Tang, "Cat head
detection", ECCV 2008; archive.org/details/CAT_DATASET.
"""

import hashlib
import posixpath

from uldscale.data.datasets.lists import Splits
from uldscale.data.datasets.points import Landmarks, annotate, landmarks, numbers
from uldscale.data.sources import Record, from_folder, read_text
from uldscale.errors import DataError

NUM_POINTS = 9
TRAIN_SHARE = (3, 4)
_WITHDRAWN = {"00000003_019.jpg": "its annotation is that of another image, as the data set's own erratum says"}


def read_cat(root: str) -> Splits:
    """Records of both splits, with the box around the 9 points.

    There is no split that others use and can be repeated: the first three quarters of the images are for training, when ordered
    by the SHA-256 of their file names without folders. Raises DataError when there are no images, or two of one name.
    """
    records = sorted(from_folder(root), key=lambda record: _draw(_name(record)))
    _require_unique(records)
    cut = len(records) * TRAIN_SHARE[0] // TRAIN_SHARE[1]
    read = [_annotated(record) for record in records]
    return {"train": read[:cut], "test": read[cut:]}


def _annotated(record: Record) -> Record:
    if (reason := _WITHDRAWN.get(_name(record))) is not None:
        return Record(record.id, record.uri, broken=reason)
    return annotate(record, _read_points, f"{record.uri}.cat")


def _read_points(path: str) -> Landmarks:
    words = read_text(path).split()
    if words[:1] != [str(NUM_POINTS)] or len(words) != 1 + 2 * NUM_POINTS:
        got = f"{len(words)} numbers that begin with {words[0]:.20}" if words else "nothing"
        raise DataError(f"{path} holds {got}; wanted {NUM_POINTS} and then x and y of as many points")
    return landmarks(numbers(words[1:], path), path)


def _require_unique(records: list[Record]) -> None:
    for first, second in zip(records, records[1:], strict=False):
        if _name(first) == _name(second):
            # The copy on Kaggle holds every image twice; one would train and the other test.
            both = " and ".join(sorted([first.uri, second.uri]))
            raise DataError(f"two images have the name {_name(first)}: {both}; remove one of the copies")


def _name(record: Record) -> str:
    return posixpath.basename(record.uri)


def _draw(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="replace")).digest()
