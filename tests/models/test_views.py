import subprocess
import sys

import numpy as np
import pytest
import torch

from uldscale import config as settings
from uldscale.errors import ConfigError
from uldscale.models import rendering
from uldscale.models.views import ViewConfig, apply, view_matrices

SIZE = 64
STILL = ViewConfig(count=1, rotation=0, scale=(1, 1), shift=0, brightness=0, contrast=0, saturation=0, noise=0)


def render_views(image: np.ndarray, matrices: np.ndarray, config: ViewConfig, image_id: str, seed: int) -> np.ndarray:
    return rendering.render_views(torch.from_numpy(image), matrices, config, image_id, seed).numpy()


def smooth_image(seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(60, 196, (4, 4, 3))
    return np.kron(coarse, np.ones((SIZE // 4, SIZE // 4, 1))).astype(np.uint8)


def test_views_depend_on_seed_id_and_number_only() -> None:
    few, many = ViewConfig(count=3), ViewConfig(count=6)
    assert np.array_equal(view_matrices(few, "a", 1), view_matrices(many, "a", 1)[:3])
    for other in (view_matrices(few, "b", 1), view_matrices(few, "a", 2)):
        assert not np.allclose(view_matrices(few, "a", 1)[1:], other[1:])

    image, matrices = smooth_image(), view_matrices(many, "a", 1)
    assert np.array_equal(
        render_views(image, matrices[:3], few, "a", 1), render_views(image, matrices, many, "a", 1)[:3]
    )


def test_view_zero_is_the_image() -> None:
    config = ViewConfig(count=2)
    matrices = view_matrices(config, "a", 0)
    views = render_views(smooth_image(), matrices, config, "a", 0)
    assert np.array_equal(matrices[0], np.eye(3))
    assert np.array_equal(views[0], smooth_image())
    assert views.shape == (2, SIZE, SIZE, 3)
    assert views.dtype == np.uint8
    assert not np.array_equal(views[1], views[0])


@pytest.mark.parametrize("flip", [False, True])
def test_matrices_are_similarities_inside_the_limits(flip: bool) -> None:
    config = ViewConfig(count=400, rotation=30, scale=(0.7, 1.2), shift=0.1, flip=flip)
    matrices = view_matrices(config, "a", 0)[1:].astype(float)
    linear = matrices[:, :2, :2]
    scale = np.sqrt(np.abs(np.linalg.det(linear)))
    mirrored = np.linalg.det(linear) < 0
    upright = linear @ np.where(mirrored[:, None, None], np.diag([-1.0, 1.0]), np.eye(2)) / scale[:, None, None]
    angle = np.degrees(np.arctan2(upright[:, 1, 0], upright[:, 0, 0]))
    centre = apply(matrices, np.array([[0.5, 0.5]]))[:, 0]

    assert np.allclose(upright @ upright.mT, np.eye(2), atol=1e-6)
    assert 0.7 <= scale.min() < 0.72
    assert 1.17 < scale.max() <= 1.2001
    assert -30.001 <= angle.min() < -28
    assert 28 < angle.max() <= 30.001
    assert 0.09 < np.abs(centre - 0.5).max() <= 0.1001
    assert 0.4 < mirrored.mean() < 0.6 if flip else not mirrored.any()


def test_flips_leave_the_other_numbers_alone() -> None:
    plain = view_matrices(ViewConfig(count=20, flip=False), "a", 0)
    flipped = view_matrices(ViewConfig(count=20, flip=True), "a", 0)
    mirror = np.array([[-1, 0, 1], [0, 1, 0], [0, 0, 1]])
    for before, after in zip(plain, flipped, strict=True):
        assert np.allclose(before, after, atol=1e-6) or np.allclose(before @ mirror, after, atol=1e-6)


def test_a_marked_pixel_lands_where_the_matrix_says() -> None:
    config = STILL.updated(count=9, rotation=40, scale=(0.8, 1.25), shift=0.05, flip=True)
    matrices = view_matrices(config, "marker", 0)
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[20:23, 38:41] = 255  # centred at pixel (39.5, 21.5) from the upper left corner
    views = render_views(image, matrices, config, "marker", 0).mean(-1)
    coordinates = np.arange(SIZE) + 0.5
    for view, matrix in zip(views, matrices, strict=True):
        seen = np.array([(view.sum(0) * coordinates).sum(), (view.sum(1) * coordinates).sum()]) / view.sum()
        assert np.allclose(seen, apply(matrix, np.array([[39.5, 21.5]]) / SIZE)[0] * SIZE, atol=0.05)


def test_borders_are_reflected() -> None:
    config = STILL.updated(count=2)
    shifted = np.stack([np.eye(3), [[1, 0, 0.25], [0, 1, 0], [0, 0, 1]]]).astype(np.float32)
    ramp = np.repeat(np.arange(SIZE, dtype=np.uint8)[None, :, None], SIZE, 0).repeat(3, 2)
    view = render_views(ramp, shifted, config, "a", 0)[1]
    assert np.array_equal(view[0, :, 0], [*range(15, -1, -1), *range(48)])

    turned = view_matrices(config.updated(rotation=180, scale=(0.2, 0.2)), "a", 0)
    grey = np.full((SIZE, SIZE, 3), 77, np.uint8)
    assert (render_views(grey, turned, config, "a", 0) == 77).all()


def test_view_one_is_moved_and_not_relit() -> None:
    config = STILL.updated(count=4, brightness=0.3, contrast=0.3, noise=0.1)
    views = render_views(smooth_image(), np.stack([np.eye(3)] * 4).astype(np.float32), config, "a", 0)
    assert np.array_equal(views[1], smooth_image())
    assert (views[2:] != smooth_image()).mean() > 0.9
    assert not np.array_equal(views[2], views[3])


@pytest.mark.parametrize("limit", ["brightness", "contrast", "saturation"])
def test_each_change_of_light_is_what_its_name_says(limit: str) -> None:
    config = STILL.updated(count=2, relit_from=1, **{limit: 0.3})
    image = smooth_image().astype(float)
    view = render_views(image.astype(np.uint8), np.stack([np.eye(3)] * 2).astype(np.float32), config, "a", 3)[1]
    grey = (image @ [0.299, 0.587, 0.114])[..., None]
    centre = {"brightness": 0.0, "contrast": grey.mean(), "saturation": grey}[limit]
    factor = ((view - centre) * (image - centre)).sum() / ((image - centre) ** 2).sum()
    assert 0.7 <= factor <= 1.3
    assert abs(factor - 1) > 0.01
    assert np.abs(centre + factor * (image - centre) - view).max() < 1


def test_noise_has_at_most_the_given_deviation() -> None:
    config = STILL.updated(count=20, relit_from=1, noise=0.1)
    grey = np.full((SIZE, SIZE, 3), 128, np.uint8)
    views = render_views(grey, np.stack([np.eye(3)] * 20).astype(np.float32), config, "a", 0)
    deviations = views.astype(float).std((1, 2, 3)) / 255
    assert deviations[0] == 0
    assert 0.08 < deviations.max() < 0.101
    assert deviations[1:].min() < 0.03


def test_apply_composes_and_treats_numpy_and_torch_alike() -> None:
    first, second = view_matrices(ViewConfig(count=3, flip=True), "a", 0)[1:].astype(float)
    points = np.random.default_rng(0).random((5, 7, 2))
    points[2, 3] = np.nan
    moved = apply(second @ first, points)
    assert np.allclose(apply(second, apply(first, points)), moved, equal_nan=True)
    assert np.isnan(moved[2, 3]).all()
    assert np.isnan(moved).sum() == 2
    many = torch.from_numpy(np.stack([second @ first] * 5))
    assert np.allclose(apply(many, torch.from_numpy(points)).numpy(), moved, equal_nan=True)


@pytest.mark.parametrize(
    "wrong", [{"scale": [1.2, 0.8]}, {"scale": [0, 1]}, {"count": 0}, {"noise": -0.1}, {"relit_from": 0}]
)
def test_senseless_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        settings.validate(ViewConfig, wrong, "job.yaml")


def test_views_need_no_torch() -> None:
    check = "import sys, uldscale.models.views; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
