"""dlib's face detector on photographs, where it is installed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uldscale.data.datasets.mtfl import read_mtfl
from uldscale.data.images import BrokenImage, decode
from uldscale.data.roi import Provider, RoiConfig, make_provider
from uldscale.data.sources import Record
from uldscale.errors import DataError

INSTALLED = importlib.util.find_spec("dlib") is not None
needs_dlib = pytest.mark.skipif(not INSTALLED, reason="dlib is not installed: pip install 'uldscale[face]'")
FACE = RoiConfig(provider="face")


@pytest.mark.skipif(INSTALLED, reason="dlib is installed")
def test_without_dlib_it_says_what_to_do() -> None:
    with pytest.raises(DataError, match=r"pip install 'uldscale\[face\]', or make boxes elsewhere"):
        make_provider(FACE)


@needs_dlib
def test_no_face_is_no_region() -> None:
    with pytest.raises(BrokenImage, match=r"no face found with a score of at least 0.5"):
        make_provider(FACE)(Record("a", "a.png"), np.full((80, 80, 3), 90, np.uint8))


@needs_dlib
def test_faces_of_photographs_are_found(shared: Path) -> None:
    """On more than nine of ten photographs the box of one face holds the annotated points, but for some on its edge."""
    if not (shared / "data" / "mtfl").is_dir():
        pytest.skip("no MTFL in the shared data")
    find = make_provider(FACE.updated(objects="all"))
    records = read_mtfl(str(shared / "data" / "mtfl"))["train"][::250]
    assert len(records) == 40
    assert sum(_is_found(record, find) for record in records) >= 36


def _is_found(record: Record, find: Provider) -> bool:
    try:
        boxes = find(record, decode(record.uri))
    except BrokenImage:
        return False
    points = np.asarray(record.landmarks)
    return any(((points >= [x0, y0]) & (points <= [x1, y1])).all(1).sum() >= 4 for x0, y0, x1, y1 in boxes)


@needs_dlib
def test_a_pair_of_faces_is_two_objects(shared: Path) -> None:
    """Side by side, the larger first; a higher threshold finds fewer."""
    if not (shared / "data" / "mtfl").is_dir():
        pytest.skip("no MTFL in the shared data")
    record = next(
        record for record in read_mtfl(str(shared / "data" / "mtfl"))["train"] if _is_found(record, make_provider(FACE))
    )
    face = decode(record.uri)
    height, width = (side * 3 // 4 for side in face.shape[:2])
    small = np.zeros_like(face)
    small[:height, :width] = Image.fromarray(face).resize((width, height))
    pair = np.hstack([small, face])
    both = make_provider(FACE.updated(objects="all"))(record, pair)
    assert len(both) == 2
    assert both[0][0] > face.shape[1] > both[1][0]
    assert make_provider(FACE)(record, pair) == both[:1]
    with pytest.raises(BrokenImage, match="at least 0.99"):
        make_provider(FACE.updated(threshold=0.99))(record, pair)
