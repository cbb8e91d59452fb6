import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from uldscale.evaluation import plots


def opened(content):
    assert content.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def near(picture, colour, tolerance=12):
    """Pixels of a colour given as 0..1."""
    return (np.abs(picture - 255 * np.array(colour)) < tolerance).all(axis=-1)


def strokes(drawn, number):
    """Paths of a chart in one of the colours of lines."""
    variable = "--ink" if number == 7 else f"--line-{number}"
    return [
        path
        for path in ElementTree.fromstring(drawn).iter("{http://www.w3.org/2000/svg}path")
        if f"var({variable}" in path.get("style", "")
    ]


def corners(path):
    """Points of a path, (n, 2)."""
    return np.array(re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", path.get("d")), float)


def test_colours_are_fixed_and_distinct():
    many = plots.colours(40)
    assert plots.colours(10) == many[:10]
    assert len(many) == 40
    gaps = np.linalg.norm(np.array(many)[:, None] - many, axis=-1) + 9 * np.eye(40)
    assert gaps.min() > 0.28


def test_yaw_has_a_bar_for_each_range():
    bars = strokes(plots.yaws(np.array([-30.0, -32, np.nan, 60])), 0)
    heights = [np.ptp(corners(bar)[:, 1]) for bar in bars]
    assert len(heights) == 36
    assert sorted(heights)[-3:] == pytest.approx([max(heights)] * 3)
    assert sorted(heights)[0] == 0
    assert plots.yaws(np.zeros(0))


def test_cumulative_errors_draw_each_method():
    drawn = plots.ced({"zero_shot": [3.0, 4, 5], "d_uld_pp": [2.0, 2.5]}, "landmarks")
    for number, count in ((0, 3), (1, 2)):
        assert count in [len(corners(path)) for path in strokes(drawn, number)]
    assert "landmarks, best first" in drawn


def record(stage, step, loss, **more):
    return {"stage": stage, "step": step, "loss": loss, "step_seconds": 1.0, **more}


@pytest.mark.parametrize("stages", [0, 1, 2, 5])
@pytest.mark.filterwarnings("error")
def test_losses_have_a_chart_per_stage(stages):
    metrics = [{"event": "start", "time": 1.5}, {"stage": "index", "step": 0, "seconds": 3.0}]
    for stage in range(stages):
        metrics += [
            record(f"stage {stage}", step, 5 * 0.9**step - 0.01 * stage, **({"pose": 0.5} if step % 2 else {}))
            for step in range(60)
        ]
    charts = plots.loss_curves(metrics)
    assert list(charts) == [f"stage {stage}" for stage in range(stages)]
    for drawn in charts.values():
        assert strokes(drawn, 0)
        assert strokes(drawn, 1)
        assert "pose" in drawn


def test_one_logged_step_is_no_curve():
    assert list(
        plots.loss_curves([record("a", 10, 1.0), record("a", 10, 2.0), record("b", 1, 1.0), record("b", 2, 1.0)])
    ) == ["b"]


def test_a_step_that_was_done_twice_counts_once():
    torn = [record("d_uld", step, 9.0 if step > 20 else 1.0) for step in range(40)] + [
        record("d_uld", step, 1.0) for step in range(21, 60)
    ]
    assert plots.loss_curves(torn) == plots.loss_curves([record("d_uld", step, 1.0) for step in range(60)])


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
    drawn = plots.curves([1, 2, 3, 4], {"a": [0.1, 0.2, 0.3, 0.4], "b": [0.9, None, None, 0.9]}, "round", "share")
    whole, torn = ([path.get("d").count("M") for path in strokes(drawn, number)] for number in (0, 1))
    assert max(whole) == 1
    assert max(torn) == 2
