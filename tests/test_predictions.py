"""Prediction files: what goes in comes out, missing landmarks included."""

from pathlib import Path

import numpy as np

from uldscale.predictions import Predictions


def test_round_trip(tmp_path: Path) -> None:
    points = np.random.default_rng(0).random((5, 4, 2), np.float32)
    points[1, 2] = points[4] = np.nan
    path = str(tmp_path / "predictions.parquet")
    Predictions([f"image-{row}" for row in range(5)], points, np.arange(5)).write(path)
    found = Predictions.read(path)
    assert found.ids == [f"image-{row}" for row in range(5)]
    np.testing.assert_array_equal(found.points, points)
    np.testing.assert_array_equal(found.poses, np.arange(5))
