"""Data sets of the field as they are distributed: folders, lists and annotations become records, by their fixed splits.

Law: what a split holds depends on names and lists alone. A list that is missing or malformed is a DataError; an image whose own
annotation cannot be read is a broken record.
"""

from collections.abc import Callable

from uldscale.data.datasets.aflw import read_aflw
from uldscale.data.datasets.cat import read_cat
from uldscale.data.datasets.celeba import read_celeba
from uldscale.data.datasets.lists import Splits
from uldscale.data.datasets.ls3d import read_ls3d
from uldscale.data.datasets.mtfl import read_mtfl
from uldscale.data.datasets.pts import read_pts
from uldscale.data.datasets.wflw import read_wflw

READERS: dict[str, Callable[[str], Splits]] = {
    "aflw": read_aflw,
    "cat": read_cat,
    "celeba": read_celeba,
    "ls3d": read_ls3d,
    "mtfl": read_mtfl,
    "pts": read_pts,
    "wflw": read_wflw,
}
"""By data.kind: from the data set's folder to its records."""

CONVENTIONS = {
    "aflw": "AFLW: (y, x) of gt as in the files, in pixels of the crop; faces named twice count twice",
    "cat": "CAT: pixels as in the files, box around the 9 points",
    "celeba": "CelebA: pixels as in the lists; points on the MAFL lists alone",
    "ls3d": "300W-LP and LS3D-W: pixels as in the files, box around the 68 points; yaw > 0 with the nose toward image right",
    "mtfl": "MTFL: the first pixel is (1, 1) in the lists and (0, 0) here; a yaw stands for each of five pose classes",
    "wflw": "WFLW: pixels as in the lists, with the lists' own boxes",
}
"""By data.kind: how its annotations are read."""
