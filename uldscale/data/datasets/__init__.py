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
