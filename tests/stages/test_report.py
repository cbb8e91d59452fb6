"""The report of small runs: what it says, and how a browser shows it."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from uldscale import files
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.errors import IncompleteError
from uldscale.evaluation.plots import colours
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.predictions import Predictions
from uldscale.probes import Probe, sample
from uldscale.stages.evaluate import evaluate
from uldscale.stages.locate import PREDICTIONS, PROBE
from uldscale.stages.tiles import Album, ink_on

FACES = {"kind": "faces3d", "train": 12, "test": 12, "size": 64}


@pytest.fixture(scope="module")
def faces() -> ImageIndex:
    return ImageIndex.build(DataConfig.model_validate(FACES))


def finished(index: ImageIndex, folder: Path, data: dict[str, Any], points: NDArray[np.float32]) -> Pipeline:
    """A run whose ZeroShot and D-ULD++ have found some landmarks (N, K, 2), with one warning."""
    pipeline = Pipeline(Job.model_validate({"name": "small", "output": str(folder), "data": data}))
    index.write(pipeline.run.index)
    ids, moves = [row["id"] for row in index.table.select(["id"]).to_pylist()], np.eye(3, dtype=np.float32)
    moves[0, 2] = 0.1
    rows = sample(index)
    for method in ("zero_shot", "d_uld_pp"):
        place = pipeline.run.method(method)
        Predictions(ids, points, np.arange(len(ids)) % 2).write(files.join(place, PREDICTIONS))
        descriptors = np.tile(np.eye(points.shape[1], 8, dtype=np.float16), (len(rows), 1, 1))
        moved = points[rows] + np.float32([0.11, 0])
        Probe(rows, moved, np.tile(moves, (len(rows), 1, 1)), descriptors).write(files.join(place, PROBE))
    for step in range(3):
        pipeline.run.log(event="step", stage="bootstrap", step=step, loss=1.0 - step / 4)
    pipeline.run.log(event="step", stage="d_uld", step=1, loss=1.0)
    with pipeline.run.timed("index"):
        pass
    evaluate(pipeline.job.evaluate, index, pipeline.run, "small")
    pipeline.report()
    return pipeline


@pytest.fixture(scope="module")
def annotated(faces: ImageIndex, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    points = faces.landmarks(np.arange(len(faces)))[:, ::9].copy()
    # Two share a place; one is on few images.
    points[:, 3] = points[:, 2] + 0.005
    points[::3, 5] = np.nan
    return finished(faces, tmp_path_factory.mktemp("annotated"), FACES, points)


@pytest.fixture(scope="module")
def untested(faces: ImageIndex, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Without test set, annotations and yaw."""
    folder = tmp_path_factory.mktemp("images")
    for row in faces.rows("train"):
        Image.fromarray(faces.load(int(row), 64)).save(folder / f"part <b>{row}.png")
    data = {"kind": "folder", "train": str(folder), "size": 64}
    index = ImageIndex.build(DataConfig.model_validate(data))
    points = faces.landmarks(faces.rows("train"))[:, ::9]
    return finished(index, tmp_path_factory.mktemp("untested"), data, points)


def page_of(pipeline: Pipeline) -> str:
    return files.read_bytes(pipeline.run.report).decode()


def words_of(pipeline: Pipeline) -> str:
    """What a reader sees, without styles and tags."""
    page = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page_of(pipeline), flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(page))


def test_a_report_says_what_a_reader_wants_to_know(annotated: Pipeline) -> None:
    words = words_of(annotated)
    assert words.index("Verdict") < words.index("Warnings") < words.index("Normalised mean error")
    for part in (
        "D-ULD++ found 8 landmarks on images of small",
        "landmarks share a place: 2 and 3",
        "Try: set train.losses.negatives=near",
        "Landmark 5:",
        "On 8 of 12 test images (67 %)",
        "Best by forward NME, % (68pt-300) ↓",
        "Worst by",
        "68pt-300: percent of the distance between the outer eye corners, fitted on 12 training images, measured on 12 test images",
        "Pose 1:",
        "landmarks K, poses Q",
        "again uldscale run",
        "tiny-ldm",
        "Time and bytes",
    ):
        assert part in words, part
    result = files.read_json(annotated.run.result)
    for end in ("best", "worst"):
        for image in result["methods"]["d_uld_pp"]["images"][end]:
            assert f"{image['id']}: {image['value']:.2f}" in words


def test_a_chart_of_one_step_is_left_out(annotated: Pipeline) -> None:
    page = page_of(annotated)
    assert "<figcaption>bootstrap</figcaption>" in page
    assert "<figcaption>D-ULD</figcaption>" not in page


def test_without_test_set_nothing_is_said_of_test_images(untested: Pipeline) -> None:
    words = words_of(untested)
    for part in (
        "There is no test set",
        "12 training images, 0 test images",
        "Training images with the landmarks of",
        "nobody can say",
    ):
        assert part in words
    assert "of 12 training images" in words
    assert "Best by consistency, px of 128" in words
    for part in ("Pose purity", "Purity:", "Normalised mean error", "yaw"):
        assert part not in words
    assert words.count("test images") == words.count("0 test images") == 1


def test_names_of_landmarks_are_those_of_the_model(annotated: Pipeline, tmp_path: Path) -> None:
    names = ["jaw", "brow", "eye", "eye 2", "nose", "lip", "chin", "mouth"]
    config = files.join(annotated.run.model, "config.json")
    files.write_json(config, {"names": names})
    annotated.report()
    files.remove(annotated.run.model)
    assert all(f"Landmark {name}:" in words_of(annotated) for name in names)


def test_a_missing_landmark_takes_no_number_from_the_others(faces: ImageIndex) -> None:
    names, points = ["left eye", "nose tip", "chin"], np.full((3, 2), 0.5)
    points[0] = np.nan
    dots = Album(faces, 64, names).tile(0, points).dots
    assert [(dot.number, dot.name) for dot in dots] == [(1, "nose tip"), (2, "chin")]


def test_a_result_of_an_earlier_version_is_measured_again_first(faces: ImageIndex, tmp_path: Path) -> None:
    pipeline = Pipeline(Job.model_validate({"name": "old", "output": str(tmp_path), "data": FACES}))
    faces.write(pipeline.run.index)
    files.write_json(pipeline.run.result, {"methods": {}})
    with pytest.raises(IncompleteError, match="is of an earlier version; `uldscale evaluate` the same job again"):
        pipeline.report()


def test_numbers_can_be_read_on_every_colour() -> None:
    for colour in colours(60):
        ink = {"#000000": 0.0, "#ffffff": 1.0}[ink_on(colour)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
        own = float(np.dot(linear, (0.2126, 0.7152, 0.0722)))
        assert (max(own, ink) + 0.05) / (min(own, ink) + 0.05) >= 4.5


LOOK = """<script>
const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
const luminance = colour => {
  const [r, g, b] = colour.map(part => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = element => {
  for (; element; element = element.parentElement) {
    const colour = rgb(getComputedStyle(element).backgroundColor);
    if (colour.length == 3) return colour;
  }
  return [255, 255, 255];
};
const pale = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
document.querySelectorAll('details').forEach(details => details.open = true);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
  if (!walker.currentNode.data.trim() || !box.width || element.closest('.tile svg, script, title, style')) continue;
  const words = rgb(element.closest('svg') ? style.fill : style.color).slice(0, 3), paper = behind(element);
  const [dark, light] = [luminance(words), luminance(paper)].sort((a, b) => a - b);
  if ((light + 0.05) / (dark + 0.05) < 4.5) pale.push([walker.currentNode.data.trim(), words, paper]);
}
const wide = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('svg'));
document.documentElement.dataset.found = JSON.stringify({
  width: innerWidth, scroll: document.documentElement.scrollWidth, pale, wide: wide.map(e => e.tagName + ' ' + e.className),
  paper: behind(document.body), silent: [...document.querySelectorAll('img:not([alt]), [role=img]:not([aria-label])')].length,
});
</script>"""


FRAME = """<!doctype html><meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
<iframe style="width: {width}px; height: 900px; border: 0" srcdoc="{report}"
  onload="document.documentElement.dataset.found = this.contentDocument.documentElement.dataset.found"></iframe>"""
"""A window of any width: those of Chromium have 500 pixels and more."""


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    return found


def run_chromium(chromium: str, page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        chromium,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={profile}",
        *options,
        page.as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("kind", ["annotated", "untested"])
def test_a_browser_shows_all_of_it(
    request: pytest.FixtureRequest, chromium: str, tmp_path: Path, kind: str, width: int, dark: bool
) -> None:
    """As wide as the window, every word with the contrast of WCAG AA on what is behind it, no error on the console."""
    page = tmp_path / "page.html"
    report = page_of(request.getfixturevalue(kind)).replace("</body>", f"{LOOK}</body>")
    page.write_text(FRAME.format(width=width, report=html.escape(report)), "utf-8")
    shown = run_chromium(
        chromium, page, tmp_path / "profile", "--window-size=1500,900", "--dump-dom", "--enable-logging=stderr",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    )  # fmt: skip
    said = re.search(r'data-found="([^"]*)"', shown.stdout)
    assert said, shown.stderr
    found = json.loads(html.unescape(said[1]))
    assert found["width"] == width
    assert (found["paper"] != [255, 255, 255]) == dark
    assert found["scroll"] <= width
    assert (found["wide"], found["pale"], found["silent"]) == ([], [], 0)
    assert [line for line in shown.stderr.splitlines() if ":CONSOLE" in line] == []


def test_a_report_can_be_printed(annotated: Pipeline, chromium: str, tmp_path: Path) -> None:
    paper = tmp_path / "report.pdf"
    run_chromium(
        chromium, Path(annotated.run.report), tmp_path / "profile", f"--print-to-pdf={paper}", "--no-pdf-header-footer"
    )
    printed = paper.read_bytes()
    assert printed.startswith(b"%PDF")
    assert 2 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 20
