"""The picture of a dashboard, with a real Prometheus that has the past of a small run; and its answer to every query."""

import json
import math
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from matplotlib.patches import Rectangle
from outside import SERIES
from queries import Query, dashboards, of_alerts, of_dashboards

import draw  # isort: skip  (queries says where it is)
from dashboard import Dashboard  # isort: skip

END = 1_700_000_000
MINUTES = 60
LABELS = 'run="mine",stage="extract"'


def past() -> str:
    """An hour of the run in OpenMetrics: it extracts 100 shards and writes 1 GiB a minute; its model waits a quarter of the time.

    Another stage has nothing to do: of it nothing is done of nothing.
    """
    series = {
        f"ray_uldscale_stage_active{{{LABELS}}}": (1.0, 0.0),
        f"ray_uldscale_stage_done{{{LABELS}}}": (0.0, 100 / MINUTES),
        f"ray_uldscale_stage_size{{{LABELS}}}": (100.0, 0.0),
        f"ray_uldscale_stage_left_seconds{{{LABELS}}}": (3600.0, -60.0),
        'ray_uldscale_stage_active{run="mine",stage="locate"}': (1.0, 0.0),
        'ray_uldscale_stage_done{run="mine",stage="locate"}': (0.0, 0.0),
        'ray_uldscale_stage_size{run="mine",stage="locate"}': (0.0, 0.0),
        'ray_uldscale_extract_written_bytes_total{run="mine"}': (0.0, 2.0**30),
        'ray_uldscale_extract_seconds_total{run="mine",part="model"}': (0.0, 45.0),
        'ray_uldscale_extract_seconds_total{run="mine",part="idle"}': (0.0, 15.0),
    }
    for name, (labels, value) in SERIES.items():
        series[name + "{" + ",".join(f'{label}="{text}"' for label, text in labels.items()) + "}"] = (float(value), 0.0)
    lines = [
        f"{name} {start + minute * slope} {END - 60 * (MINUTES - minute)}"
        for name, (start, slope) in series.items()
        for minute in range(MINUTES + 1)
    ]
    return "\n".join([*lines, "# EOF\n"])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Prometheus that knows the past of the run; skipped without Prometheus."""
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        pytest.skip("no prometheus and promtool")
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "past.txt").write_text(past(), "utf-8")
    (folder / "prometheus.yml").write_text("global: {}", "utf-8")
    made = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "past.txt", "data"]
    subprocess.run(made, cwd=folder, check=True, capture_output=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    served = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--storage.tsdb.retention.time=100y"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            ["prometheus", *served, f"--web.listen-address={address}"], cwd=folder, stdout=log, stderr=log
        )
    wait_for(f"http://{address}/-/ready")
    yield f"http://{address}"
    server.terminate()
    server.wait(30)


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, f"{url} did not answer within 60 s"
            time.sleep(0.2)
        else:
            return


def answer(prometheus: str, query: Query) -> list[object]:
    asked = urllib.parse.urlencode({"query": query.expr, "time": END})
    with urllib.request.urlopen(f"{prometheus}/api/v1/query?{asked}", timeout=30) as page:
        found: list[object] = json.load(page)["data"]["result"]
    return found


def test_prometheus_answers_every_query(prometheus: str) -> None:
    """With data where what is outside of Ray suffices; an error would be an exception."""
    answers = {query: answer(prometheus, query) for query in [*of_dashboards("mine"), *of_alerts()]}
    shown = [query for query in answers if query.place != "alerts"]
    assert all(answers[query] for query in shown if query.needs and "failure" not in query.needs)
    assert {query.place for query in shown if answers[query]} >= {"uldscale-run", "uldscale-extraction"}


@pytest.fixture
def source(prometheus: str) -> draw.Source:
    """The whole past of the run."""
    return draw.Source(prometheus, "mine", END - 60 * MINUTES, END)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Stage", {"extract": 1.0}),
        ("Left", {"extract": 0.0}),
        ("Done", {"extract": 1.0}),
        ("Extraction: time of actors", {"model": 0.75, "idle": 0.25}),
        ("Features", {"written": 2**30 / 60}),
        ("Given up", {"": 0.0}),
        ("RayJob", {"uldscale: Running": 1.0}),
        ("Loss", {}),
        (
            "Failures",
            dict.fromkeys(("all: tried again", "all: given up", "all: actor lost ()", "train: restarts"), 0.0),
        ),
    ],
)
def test_what_panels_show(source: draw.Source, title: str, expected: dict[str, float]) -> None:
    (panel,) = (panel for panel in dashboards()[0].panels if panel.title == title)
    found = {series.legend: series.values[-1] for series in source.series(panel)}
    assert found == pytest.approx(expected, rel=1e-6)


def test_what_was_not_known_is_no_line() -> None:
    drawn = draw.Series("", [0.0, 15.0, 90.0, 105.0], [1.0, 2.0, 3.0, 4.0]).with_gaps(15.0)
    assert drawn.times == [0.0, 15.0, 30.0, 75.0, 90.0, 105.0]
    assert drawn.values == pytest.approx([1.0, 2.0, math.nan, math.nan, 3.0, 4.0], nan_ok=True)


def test_a_period_ends_where_a_process_did(monkeypatch: pytest.MonkeyPatch) -> None:
    source = draw.Source("", "mine", 0.0, 3600.0)
    monkeypatch.setattr(draw.Source, "series", lambda *_: [draw.Series("d_uld", [0.0, 15.0, 3000.0], [1.0, 1.0, 1.0])])
    (panel,) = (panel for panel in dashboards()[0].panels if panel.title == "At work")
    axes = plt.figure().add_subplot()
    draw.periods(axes, panel, source)
    assert sum(bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)) == 3 * source.step
    plt.close("all")


@pytest.mark.parametrize("dashboard", dashboards(), ids=lambda dashboard: dashboard.uid)
def test_every_dashboard_can_be_drawn(source: draw.Source, dashboard: Dashboard, tmp_path: Path) -> None:
    draw.draw(dashboard, source, str(tmp_path / "out.svg"))
    text = (tmp_path / "out.svg").read_text("utf-8")
    assert all(f"<!-- {panel.title} -->" in text for panel in dashboard.panels)


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.25, "percentunit", "25 %"),
        (5.3, "percent", "5.3 %"),
        (5400.0, "s", "1.5 h"),
        (0.5, "s", "0.5 s"),
        (0.0, "s", "0 s"),
        (3 * 2.0**29, "bytes", "1.5 GiB"),
        (2048.0, "Bps", "2 KiB/s"),
        (12_345.0, "none", "12345"),
    ],
)
def test_values_are_said_in_their_unit(value: float, unit: str, words: str) -> None:
    assert draw.said(value, unit) == words
