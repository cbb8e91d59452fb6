"""Landmarks of any other method, scored like our own: a JSON file becomes a method of the run.

    {"name": "imm", "unit": "pixels", "images": {"<image id>": [[x, y], null, ...], ...}}

unit "pixels": of the upright image file; "crop": unit coordinates of the region of interest. null is a landmark that was not found.
Ids are those of the index (`uldscale index`): names of files without extension, relative to the folder of images. `uldscale predict
--format json` writes such files, with more about each image and landmark.
"""

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from uldscale import files
from uldscale.config import Settings, validate
from uldscale.data.index import ImageIndex
from uldscale.data.sources import read_json
from uldscale.errors import DataError
from uldscale.predictions import Predictions
from uldscale.runs import RunFolder
from uldscale.runtime.screen import warn
from uldscale.stages.evaluate import METHODS
from uldscale.stages.locate import PREDICTIONS

LARGEST_UNIT = 1.5
"""Unit coordinates beyond are no places in a crop."""
PIXELS = 0.25
"""Share of such coordinates from which on they are pixels."""
Coordinate = Annotated[float, Field(allow_inf_nan=False)]


class PeerFile(Settings):
    """Landmarks of a method by image."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    unit: Literal["pixels", "crop"]
    images: dict[str, list[tuple[Coordinate, Coordinate] | None]] = Field(min_length=1)
    poses: dict[str, int] = {}
    """Pose cluster by image."""
    visibility: dict[str, list[Coordinate]] = {}
    """Probabilities that landmarks are seen, of all images or of none."""
    names: list[str] = []
    scores: dict[str, list[Coordinate]] = {}
    files: dict[str, str] = {}
    """For people and other programs, as are names and scores."""


def adopt(path: str, index: ImageIndex, run: RunFolder) -> str:
    """Make the landmarks in a file a method of the run; returns its name.

    Raises DataError for a file of another form, for images that the index lacks and for those that the file lacks.
    """
    peer = validate(PeerFile, read_json(path), path)
    if peer.name in METHODS:
        raise DataError(f"{path}: name {peer.name!r} is that of a method of ours; give another")
    ids = [index.row(int(row)).id for row in index.rows()]
    _check(path, peer, ids)
    points = np.array([[point or (np.nan, np.nan) for point in peer.images[id]] for id in ids], np.float32)
    if peer.unit == "pixels":
        points = _in_crop(points, index)
    else:
        _require_unit(path, points)
    poses = np.array([peer.poses.get(id, 0) for id in ids], np.int64)
    seen = _visibility(path, peer, ids, points.shape[1])
    Predictions(ids, points, poses, seen).write(files.join(run.method(peer.name), PREDICTIONS))
    return peer.name


def _check(path: str, peer: PeerFile, ids: list[str]) -> None:
    unknown, missing = sorted(set(peer.images) - set(ids)), sorted(set(ids) - set(peer.images))
    if unknown:
        raise DataError(
            f"{path}: {len(unknown)} images are not in the index, such as {unknown[0]!r}; it has {ids[0]!r}"
        )
    if missing:
        raise DataError(
            f"{path} lacks {len(missing)} of {len(ids)} images, such as {missing[0]!r}; give a list of nulls where nothing was found"
        )
    counts = {id: len(points) for id, points in peer.images.items()}
    wanted = counts[ids[0]]
    wrong = next((id for id in ids if counts[id] != wanted), None)
    if wrong or not wanted:
        place = wrong or ids[0]
        raise DataError(
            f"{path}: image {place!r} has {counts[place]} landmarks, wanted {wanted or 'at least 1'} as in all"
        )


def _visibility(path: str, peer: PeerFile, ids: list[str], landmarks: int) -> NDArray[np.float32] | None:
    """(N, K), where the file has it."""
    if not peer.visibility:
        return None
    if wrong := next((id for id in ids if len(peer.visibility.get(id, [])) != landmarks), None):
        got = len(peer.visibility.get(wrong, []))
        raise DataError(
            f"{path}: image {wrong!r} has {got} visibilities, wanted one for each of its {landmarks} landmarks"
        )
    return np.array([peer.visibility[id] for id in ids], np.float32)


def _require_unit(path: str, points: NDArray[np.float32]) -> None:
    """A few landmarks outside of the crop may be mistakes, many are pixels."""
    found = np.abs(points[np.isfinite(points)])
    share = float((found > LARGEST_UNIT).mean()) if len(found) else 0.0
    said = f"{path}: unit is 'crop', whose coordinates are within 0 and 1, but {share:.1%} of them are beyond {LARGEST_UNIT:g}"
    if share >= PIXELS:
        raise DataError(f"{said}, the largest is {found.max():g}; set unit to 'pixels' if they are pixels of the image")
    if share:
        warn(said)


def _in_crop(points: NDArray[np.float32], index: ImageIndex) -> NDArray[np.float32]:
    """Pixels of the images (n, K, 2) in unit coordinates of their regions of interest."""
    boxes = np.array([index.row(int(row)).roi for row in index.rows()], np.float64)
    corners, sides = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    return ((points - corners) / sides).astype(np.float32)
