"""Arrays of numbers in MATLAB files of version 5 to 7 on little-endian machines.

SciPy's reader ends the process on some damaged files (1.17: a segmentation fault for 8 of 1,500 files with one wrong byte), so this one
reads no more than is needed. Source: "MAT-File Format", MathWorks, chapter 1. The bytes after 128 of heading are elements:

    element    uint32 type, uint32 length, bytes, padding to 8; or uint16 type, uint16 length, 4 bytes
    type 15    zlib of one element, without padding
    type 14    an array: elements of flags, of dimensions, of its name, and of its numbers, column by column
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from uldscale.data.sources import read_content
from uldscale.errors import DataError

_HEADING = 128
_ARRAY, _COMPRESSED = 14, 15
_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_LARGEST = 1 << 28  # bytes; the largest list of the field has 10,122 faces, 0.8 MB
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX = 0x0800


def read_array(path: str, name: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """The array of that name; None in `shape` stands for any length.

    Raises DataError when the file is missing or damaged, or when the array is missing, not of numbers, or of another shape.
    """
    content = read_content(path)
    try:
        array = _find(content, name)
    except (ValueError, struct.error, zlib.error) as error:
        raise DataError(f"{path} is not a MATLAB file of version 5 to 7: {error}") from None
    if array is None:
        raise DataError(f"{path} has no variable {name!r} of real numbers; get the file anew")
    if len(array.shape) != len(shape) or any(w not in (None, n) for n, w in zip(array.shape, shape, strict=True)):
        wanted = " x ".join("n" if length is None else str(length) for length in shape)
        raise DataError(f"{path}: variable {name!r} is {' x '.join(map(str, array.shape))} numbers; wanted {wanted}")
    return array


def _find(content: bytes, name: str) -> NDArray[np.float64] | None:
    if len(content) < _HEADING or content[124:128] != b"\x00\x01IM":
        raise ValueError("its heading is another")
    for kind, data in _elements(content[_HEADING:]):
        if kind == _COMPRESSED:
            kind, data = next(_elements(zlib.decompressobj().decompress(data, _LARGEST)), (0, b""))
        if kind == _ARRAY and (array := _parse(data, name)) is not None:
            return array
    return None


def _parse(data: bytes, name: str) -> NDArray[np.float64] | None:
    """The array in an element, when it has that name and is of real numbers."""
    parts = list(_elements(data))
    if len(parts) < 4 or parts[2][1] != name.encode():
        return None
    flags, sizes = struct.unpack_from("<I", parts[0][1])[0], np.frombuffer(parts[1][1], "<i4").tolist()
    kind, numbers = parts[3]
    if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX or kind not in _NUMBERS:
        return None
    return np.frombuffer(numbers, _NUMBERS[kind]).astype(np.float64).reshape(sizes, order="F")


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, bytes) of one element after the other."""
    place = 0
    while place < len(content):
        kind, length = struct.unpack_from("<II", content, place)
        start = place + 8
        if kind >> 16:
            kind, length, start = kind & 0xFFFF, kind >> 16, place + 4
        if start + length > len(content):
            raise ValueError(f"{len(content) - start} bytes left, {length} needed")
        yield kind, content[start : start + length]
        place = start + length if kind == _COMPRESSED else -(-(start + length) // 8) * 8
