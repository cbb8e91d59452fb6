import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from uldscale.evaluation import plots


def opened(content):
    assert content.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def near(picture, colour, tolerance=12):
    """Pixels of a colour given as 0..1."""
    return (np.abs(picture - 255 * np.array(colour)) < tolerance).all(axis=-1)


@pytest.fixture
def grey():
    return np.full((3, 128, 128, 3), 90, dtype=np.uint8)


def test_colours_are_fixed_and_distinct():
    many = plots.colours(40)
    assert plots.colours(10) == many[:10]
    assert len(many) == 40
    gaps = np.linalg.norm(np.array(many)[:, None] - many, axis=-1) + 9 * np.eye(40)
    assert gaps.min() > 0.28


def test_a_landmark_is_drawn_where_it_is(grey):
    points = np.full((3, 13, 2), np.nan)
    points[1, 4] = 96, 32
    picture = opened(plots.landmarks(grey, points))
    rows, columns = np.nonzero(near(picture[: 256 + 2 * plots.GAP], plots.colours(13)[4]))
    # the second tile begins after two gaps and the first tile; 128 pixels are drawn as 256
    assert columns.mean() + 0.5 == pytest.approx(2 * plots.GAP + 256 + 192, abs=1)
    assert rows.mean() + 0.5 == pytest.approx(plots.GAP + 64, abs=1)


def test_missing_landmarks_are_not_drawn(grey):
    blank = opened(plots.landmarks(grey, np.full((3, 10, 2), np.nan)))
    assert {tuple(pixel) for pixel in blank.reshape(-1, 3)} == {(255, 255, 255), (90, 90, 90)}


@pytest.mark.parametrize(("count", "legend"), [(10, 0), (13, 30), (20, 60)])
def test_size_of_the_grid(grey, count, legend):
    points = np.full((3, count, 2), 64.0)
    height, width = opened(plots.landmarks(grey[:2], points[:2], titles=["a", "b"])).shape[:2]
    assert (height, width) == (256 + 24 + 2 * plots.GAP + legend, 2 * 256 + 3 * plots.GAP)
    height, width = opened(plots.landmarks(grey, points[:, :4], columns=2, side=100)).shape[:2]
    assert (height, width) == (2 * 100 + 3 * plots.GAP, 2 * 100 + 3 * plots.GAP)


def test_equal_input_gives_equal_bytes(grey):
    points = np.random.default_rng(0).uniform(20, 100, (1, 4, 2))
    assert plots.landmarks(grey[:1], points) == plots.landmarks(grey[:1], points)


def test_pose_rows_show_faces_and_yaw(grey):
    faces = [grey[:2], grey[:0], grey]
    alone = opened(plots.pose_rows(faces, [200, 0, 31]))
    assert near(alone, (90 / 255,) * 3).sum() > 0.95 * 5 * 112 * 112
    yaws = [np.array([-30.0, -32, np.nan]), np.zeros(0), np.array([10.0, 120])]
    with_yaw = opened(plots.pose_rows(faces, [200, 0, 31], yaws))
    assert with_yaw.shape[1] > alone.shape[1]
    bars = near(with_yaw, (0x25 / 255, 0x63 / 255, 0xEB / 255))
    heights = [bars[top : top + 118].sum() for top in (6, 124, 242)]
    assert heights[0] > 0
    assert heights[1] == 0
    assert heights[2] > 0


def test_cumulative_errors_draw_each_method():
    curves = {"zero_shot": [3.0, 4, 5], "d_uld_pp": [2.0, 2.5]}
    picture = opened(plots.ced(curves, curves))
    for colour in ((0x25, 0x63, 0xEB), (0xE8, 0x59, 0x0C)):
        drawn = near(picture, np.array(colour) / 255)
        assert drawn[:, :800].any()
        assert drawn[:, 800:].any()


@pytest.mark.parametrize("stages", [0, 1, 2, 4, 5])
@pytest.mark.filterwarnings("error")
def test_losses_have_a_panel_per_stage(stages):
    metrics = [{"event": "start", "time": 1.5}, {"stage": "index", "step": 0, "seconds": 3.0}]
    for stage in range(stages):
        metrics += [
            {"stage": f"stage {stage}", "step": step, "loss": 5 * 0.9**step - 0.01 * stage, "step_seconds": 1.0}
            | ({"pose": 0.5 if step > 9 else None} if step % 2 else {})
            for step in range(60)
        ]
    picture = opened(plots.loss_curves(metrics))
    rows, columns = {0: (1, 1), 1: (1, 1), 2: (1, 2), 4: (2, 2), 5: (2, 3)}[stages]
    assert picture.shape[:2] == (480 * rows, 1600)
    drawn = near(picture, (0x25 / 255, 0x63 / 255, 0xEB / 255))
    panels = [part.any() for row in np.array_split(drawn, rows) for part in np.array_split(row, columns, axis=1)]
    assert sum(panels) == stages


def test_a_step_that_was_done_twice_counts_once():
    def record(step, loss):
        return {"stage": "d_uld", "step": step, "loss": loss}

    torn = [record(step, 9.0 if step > 20 else 1.0) for step in range(40)] + [
        record(step, 1.0) for step in range(21, 60)
    ]
    assert plots.loss_curves(torn) == plots.loss_curves([record(step, 1.0) for step in range(60)])


@pytest.mark.parametrize(("shape", "expected"), [((64, 128), (256, 512)), ((700, 900), (700, 900))])
def test_overlay_keeps_the_shape_of_the_image(shape, expected):
    points = np.array([[32.5, 16.5], [np.nan, np.nan]])
    picture = opened(plots.overlay(np.full((*shape, 3), 90, dtype=np.uint8), points))
    assert picture.shape[:2] == expected
    rows, columns = np.nonzero(near(picture, plots.colours(1)[0]))
    scale = expected[0] / shape[0]
    assert columns.mean() == pytest.approx(32.5 * scale, abs=1.5)
    assert rows.mean() == pytest.approx(16.5 * scale, abs=1.5)


def test_smoothing_keeps_the_level_to_the_ends():
    curve = np.linspace(3, 1, 400)
    smooth = plots._smooth(curve)
    assert np.abs(smooth - curve).max() < 0.03
    assert smooth[200] == pytest.approx(curve[200])
    assert plots._smooth(np.array([2.0, 4.0])).tolist() == [2, 4]


def test_curves_have_a_line_each_and_gaps():
    whole = opened(plots.curves([1, 2, 3, 4], {"a": [0.1, 0.2, 0.3, 0.4], "b": [0.9, 0.9, 0.9, 0.9]}, "round", "share"))
    torn = opened(
        plots.curves([1, 2, 3, 4], {"a": [0.1, 0.2, 0.3, 0.4], "b": [0.9, None, None, 0.9]}, "round", "share")
    )
    for line in range(2):
        colour = to_rgb(plots.LINES[line])
        assert near(whole, colour).any()
        assert near(torn, colour).sum() < near(whole, colour).sum() if line else True
