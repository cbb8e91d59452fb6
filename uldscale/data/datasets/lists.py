"""Files of a data set: where they are, what their lines say, and ids for what they name."""

import collections
from collections.abc import Sequence
from typing import Literal

from uldscale import files
from uldscale.data.sources import Record, ids_of, numbered, read_text
from uldscale.errors import DataError

Splits = dict[Literal["train", "test"], list[Record]]


def find(root: str, *places: str) -> str:
    """The first of some places below a data set's folder that is there. Raises DataError that names all of them."""
    if not _exists(root):
        raise DataError(f"{root!r} is not there; data.train must be the folder of the data set")
    for place in places:
        if _exists(path := files.join(root, place)):
            return path
    raise DataError(f"{root} has no {' and no '.join(places)}; unpack the data set there as it is distributed")


def read_lines(path: str, skip: int = 0) -> list[tuple[int, list[str]]]:
    """(number, words) of the lines of a text file that are not empty, after `skip` lines of heading.

    Raises DataError when the file cannot be read or has no such line.
    """
    lines = [(number, line.split()) for number, line in enumerate(read_text(path).splitlines(), 1)]
    filled = [(number, words) for number, words in lines if words and number > skip]
    if not filled:
        raise DataError(f"{path} names no image; get the file anew")
    return filled


def read_names(path: str) -> list[str]:
    """The names in a file of one name a line. Raises DataError when a line has several words."""
    names = []
    for number, words in read_lines(path):
        if len(words) != 1:
            raise DataError(f"{path} line {number}: got {len(words)} words, wanted one image name")
        names.append(words[0])
    return names


def ids_with_repeats(names: Sequence[str]) -> list[str]:
    """An id for each name; the second time that a name comes, its id ends in "#2", and so on."""
    unique = sorted(set(names))
    ids, made = dict(zip(unique, ids_of(unique), strict=True)), collections.Counter[str]()
    found = []
    for name in names:
        found.append(numbered(ids[name], made[name]))
        made[name] += 1
    return found


def _exists(path: str) -> bool:
    try:
        return files.exists(path)
    except (ImportError, ValueError) as error:
        raise DataError(f"{path!r} cannot be opened: {error}") from None
