"""MATLAB files: arrays as SciPy writes them, and no damage that does more than raise DataError."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from uldscale.data.datasets.matlab import read_array
from uldscale.errors import DataError

CUBE = np.arange(20, dtype=np.float64).reshape(2, 5, 2)


def saved(variables: dict[str, Any], compressed: bool = False) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "u1", "i2", "u4", "i8"])
def test_arrays_are_what_was_saved(tmp_path: Path, compressed: bool, dtype: str) -> None:
    others = {"a": np.ones((3, 3)), "text": "gt", "cells": np.array([[1], "x"], object), "record": {"gt": 1.0}}
    path = tmp_path / "a.mat"
    path.write_bytes(saved({**others, "gt": CUBE.astype(dtype), "z": [1]}, compressed))
    array = read_array(str(path), "gt", (None, 5, 2))
    np.testing.assert_array_equal(array, CUBE)
    assert array.dtype == np.float64
    np.testing.assert_array_equal(read_array(str(path), "z", (1, 1)), [[1]])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.ones((2, 5)), "variable 'gt' is 2 x 5 numbers; wanted n x 5 x 2"),
        (np.ones((2, 2, 5)), "variable 'gt' is 2 x 2 x 5 numbers; wanted n x 5 x 2"),
        (1j * CUBE, "has no variable 'gt' of real numbers"),
        (np.array([["ab", "cd"]]), "has no variable 'gt' of real numbers"),
        ({"gt": CUBE}, "has no variable 'gt' of real numbers"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, value: Any, said: str) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(saved({"gt": value}))
    with pytest.raises(DataError, match=said):
        read_array(str(path), "gt", (None, 5, 2))


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB 7.3 MAT-file, Platform: GLNXA64" + b" " * 86 + b"\x00\x02IM" + b"\x89HDF"]
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.mat is not a MATLAB file of version 5 to 7: its heading is another"):
        read_array(str(path), "gt", (None, 5, 2))
    with pytest.raises(DataError, match=r"none.mat is not there"):
        read_array(str(tmp_path / "none.mat"), "gt", (None, 5, 2))
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_array(str(tmp_path), "gt", (None, 5, 2))


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.integers(0, 500), st.integers(0, 255), st.integers(0, 600))
def test_damaged_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, compressed: bool, place: int, value: int, end: int
) -> None:
    content = bytearray(saved({"gt": CUBE, "hw": np.ones((2, 2))}, compressed))
    content[place % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.mat"
    path.write_bytes(content[:end])
    with contextlib.suppress(DataError):
        read_array(str(path), "gt", (None, 5, 2))
