"""AFLW in the crops of the Visual Geometry Group (aflw_release-2): 10,122 training and 2,991 test faces with 5 points.

    aflw_train_images.txt, aflw_test_images.txt          one image a line, relative to output/
    aflw_train_keypoints.mat, aflw_test_keypoints.mat    gt (n, 5, 2) as (y, x), hw (n, 2), in the order of the lines
    output/                                              the images

Source: robots.ox.ac.uk/~vgg/research/unsupervised_landmarks. The original AFLW, which has yaw too, needs a signed form.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from uldscale import files
from uldscale.data.datasets.lists import Splits, find, ids_with_repeats, read_names
from uldscale.data.datasets.matlab import read_array
from uldscale.data.datasets.points import landmarks
from uldscale.data.sources import Record, locate
from uldscale.errors import DataError


def read_aflw(root: str) -> Splits:
    """Records of both splits: eyes, nose and mouth corners in px, and the size of the image that they belong to.

    A point may lie outside its crop. The test list names 132 images twice; as all published numbers count them twice, so do
    these records, the second time with "#2" in the id. Raises DataError when a file is missing or does not fit the others.
    """
    return {"train": _read_split(root, "train"), "test": _read_split(root, "test")}


def _read_split(root: str, split: str) -> list[Record]:
    names = read_names(find(root, f"aflw_{split}_images.txt"))
    path = find(root, f"aflw_{split}_keypoints.mat")
    points, sizes = read_array(path, "gt", (None, 5, 2)), read_array(path, "hw", (None, 2))
    if not len(names) == len(points) == len(sizes):
        counts = f"{len(points)} faces in gt and {len(sizes)} in hw"
        raise DataError(f"{path}: {counts}, but aflw_{split}_images.txt names {len(names)}; get both files anew")
    images, ids = files.join(root, "output"), ids_with_repeats(names)
    return [
        _annotated(
            Record(ids[i], locate(images, name, f"aflw_{split}_images.txt")),
            points[i, :, ::-1],
            sizes[i, ::-1],
            f"{path} row {i + 1}",
        )
        for i, name in enumerate(names)
    ]


def _annotated(record: Record, points: NDArray[np.float64], size: NDArray[np.float64], place: str) -> Record:
    """The record with its points as (x, y), and the size (width, height) of its image."""
    try:
        known = landmarks(points, f"{place} of gt")
        width, height = landmarks(size, f"{place} of hw").ravel().astype(int).tolist()
    except DataError as problem:
        return replace(record, broken=str(problem))
    return replace(record, landmarks=known, extent=(width, height))
