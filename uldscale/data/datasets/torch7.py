"""One tensor in Torch7's binary file format, as torch.save wrote it on 64-bit little-endian machines.

Exactly a matrix of floats is read; tables, functions and all other classes are refused. Source: File.lua, generic/Tensor.c and
generic/Storage.c of github.com/torch/torch7. The bytes:

    object     int32 4 (a class), int32 number of the object, string "V 1", string name of the class, content
    string     int32 length, bytes
    tensor     int32 dimensions, int64 sizes, int64 strides, int64 first element (from 1), the storage as an object
    storage    int64 length, elements
"""

import struct

import numpy as np
from numpy.typing import NDArray

from uldscale.errors import DataError

_CLASS = 4
_ELEMENTS = {"torch.FloatTensor": ("torch.FloatStorage", "<f4"), "torch.DoubleTensor": ("torch.DoubleStorage", "<f8")}


def parse_matrix(content: bytes, source: str) -> NDArray[np.float64]:
    """The matrix (n, m) in the bytes of a file. Raises DataError, which names `source`, for anything else."""
    cursor = _Cursor(content, source)
    tensor = cursor.object_of(tuple(_ELEMENTS))
    storage, element = _ELEMENTS[tensor]
    cursor.expect("dimensions", cursor.int32(), 2)
    rows, columns, row_stride, column_stride, first = (cursor.int64() for _ in range(5))
    cursor.object_of((storage,))
    values = cursor.elements(cursor.int64(), element)
    # A view of part of a tensor is saved with all of its storage, so elements need not lie side by side.
    strides, lengths = (row_stride, column_stride), (rows, columns)
    last = first - 1 + sum(stride * (length - 1) for stride, length in zip(strides, lengths, strict=True))
    if min(*lengths, *strides, first) < 1 or rows * columns > len(values) or last >= len(values):
        raise cursor.refuse(f"{rows} x {columns} elements that do not fit its storage of {len(values)}")
    places = first - 1 + np.arange(rows)[:, None] * row_stride + np.arange(columns) * column_stride
    return np.asarray(values[places], np.float64)


class _Cursor:
    """Reads one value after the other, never beyond the end."""

    def __init__(self, content: bytes, source: str) -> None:
        self._content, self._source, self._place = content, source, 0

    def refuse(self, found: str) -> DataError:
        return DataError(f"{self._source} is not one matrix of floats saved by Torch7: {found} (byte {self._place})")

    def expect(self, what: str, got: int, wanted: int) -> None:
        if got != wanted:
            raise self.refuse(f"{what} {got}, wanted {wanted}")

    def int32(self) -> int:
        return int(struct.unpack("<i", self._take(4))[0])

    def int64(self) -> int:
        return int(struct.unpack("<q", self._take(8))[0])

    def object_of(self, classes: tuple[str, ...]) -> str:
        """Step into an object of one of these classes."""
        self.expect("type", self.int32(), _CLASS)
        self.int32()
        names = [self._take(self.int32()) for _ in range(2)]
        if names[0] != b"V 1" or names[1] not in [name.encode() for name in classes]:
            raise self.refuse(f"class {b' '.join(names)!r:.60}, wanted {' or '.join(classes)} of version 1")
        return names[1].decode()

    def elements(self, count: int, element: str) -> NDArray[np.floating]:
        """All that is left of the file, which must be `count` elements."""
        left = len(self._content) - self._place
        if count * np.dtype(element).itemsize != left:
            raise self.refuse(f"{left} bytes left for {count} elements")
        return np.frombuffer(self._content, element, offset=self._place)

    def _take(self, count: int) -> bytes:
        if not 0 <= count <= len(self._content) - self._place:
            raise self.refuse(f"{len(self._content) - self._place} bytes left, {count} needed")
        self._place += count
        return self._content[self._place - count : self._place]
