import numpy as np
import pytest

from uldscale.data.faces3d import render
from uldscale.evaluation.yaw import MIN_IMAGES, with_estimates


@pytest.fixture(scope="module")
def faces():
    """Points and yaw of generated faces from one profile to the other."""
    rendered = [render(seed, size=64) for seed in range(200)]
    return np.stack([face.landmarks for face in rendered]), np.array([face.yaw for face in rendered])


def test_yaw_is_read_from_points(faces):
    """Wherever the face is, and however large; what is known stays as it is."""
    points, yaw = faces
    fitted, asked = np.arange(150), np.arange(150, 200)
    partly = yaw.copy()
    partly[asked] = np.nan
    moved = points.copy()
    moved[asked] = 3 * points[asked] + 17
    found = with_estimates(moved, partly, fitted)
    assert (found[fitted] == yaw[fitted]).all()
    assert np.abs(found[asked] - yaw[asked]).mean() < 5 < np.abs(yaw[asked]).mean()


def test_what_cannot_be_known_stays_unknown(faces):
    points, yaw = faces
    points = points.copy()
    points[180, 7] = np.nan
    partly = np.where(np.arange(200) < MIN_IMAGES, yaw, np.nan)
    assert np.isnan(with_estimates(points, partly, np.arange(150))[180])
    assert np.isfinite(with_estimates(points, partly, np.arange(150))[150])
    few = with_estimates(points, partly, np.arange(1, 150))
    assert np.isnan(few[MIN_IMAGES:]).all()
