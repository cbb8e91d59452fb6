"""Torch7's binary format: one matrix of floats is read, all else is refused."""

import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uldscale.data.datasets.torch7 import parse_matrix
from uldscale.errors import DataError


def string(text: str) -> bytes:
    return struct.pack("<i", len(text)) + text.encode()


def saved(
    values: np.ndarray,
    size: tuple[int, ...] = (3, 2),
    stride: tuple[int, ...] = (2, 1),
    first: int = 1,
    kind: str = "Double",
    version: str = "V 1",
) -> bytes:
    """Bytes of torch.save(name, tensor), where `values` are the elements of its storage."""
    places = struct.pack(f"<i{len(size)}q{len(stride)}qq", len(size), *size, *stride, first)
    tensor = struct.pack("<ii", 4, 1) + string(version) + string(f"torch.{kind}Tensor") + places
    storage = struct.pack("<ii", 4, 2) + string(version) + string(f"torch.{kind}Storage")
    return tensor + storage + struct.pack("<q", len(values)) + values.tobytes()


SIX = np.arange(6.0)


@pytest.mark.parametrize(("kind", "dtype"), [("Double", "<f8"), ("Float", "<f4")])
def test_a_matrix_is_read(kind: str, dtype: str) -> None:
    matrix = parse_matrix(saved(SIX.astype(dtype), kind=kind), "a.t7")
    np.testing.assert_array_equal(matrix, [[0, 1], [2, 3], [4, 5]])
    assert matrix.dtype == np.float64


def test_a_view_is_read_from_its_place_in_the_storage() -> None:
    xyz = np.arange(20.0)
    np.testing.assert_array_equal(parse_matrix(saved(xyz, stride=(3, 1), first=2), "a"), [[1, 2], [4, 5], [7, 8]])
    np.testing.assert_array_equal(parse_matrix(saved(SIX, stride=(1, 3)), "a"), [[0, 3], [1, 4], [2, 5]])


REFUSED = {
    "a table": (struct.pack("<ii", 3, 1), "type 3, wanted 4"),
    "a number": (struct.pack("<id", 1, 0.5), "type 1, wanted 4"),
    "nothing": (b"", "0 bytes left, 4 needed"),
    "a pickle": (b"\x80\x04\x95\x0c\x00\x00\x00", "type 211092608, wanted 4"),
    "integers": (saved(SIX.astype("<i4"), kind="Int"), "class b'V 1 torch.IntTensor', wanted torch.FloatTensor or"),
    "no version": (saved(SIX, version="V 2"), "class b'V 2 torch.DoubleTensor'"),
    "a vector": (saved(SIX, size=(6,), stride=(1,)), "dimensions 1, wanted 2"),
    "a cube": (saved(SIX, size=(1, 3, 2), stride=(6, 2, 1)), "dimensions 3, wanted 2"),
    "no rows": (saved(SIX, size=(0, 2)), "0 x 2 elements that do not fit its storage of 6"),
    "too many rows": (saved(SIX, size=(4, 2)), "4 x 2 elements that do not fit its storage of 6"),
    "rows that overlap": (saved(SIX, stride=(0, 1)), "do not fit"),
    "a start before the storage": (saved(SIX, first=0), "do not fit"),
    "a length that overflows": (saved(SIX, size=(2**62, 2**62)), "do not fit"),
    "a cut": (saved(SIX)[:-1], "47 bytes left for 6 elements"),
    "more behind it": (saved(SIX) + b"\0", "49 bytes left for 6 elements"),
    "text": (b"4\n1\n3\nV 1\n18\ntorch.DoubleTensor\n", "type "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_all_else_is_refused(name: str) -> None:
    content, said = REFUSED[name]
    with pytest.raises(DataError, match="^a.t7 is not one matrix of floats saved by Torch7: ") as caught:
        parse_matrix(content, "a.t7")
    assert said in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(saved(SIX)) - 1), value=st.integers(0, 255), end=st.integers(0, 200))
def test_damaged_bytes_are_read_or_refused(place: int, value: int, end: int) -> None:
    content = bytearray(saved(SIX))
    content[place] = value
    with contextlib.suppress(DataError):
        assert parse_matrix(bytes(content[:end]), "a").size <= 6
