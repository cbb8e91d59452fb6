"""The index as resumable work: the same bytes whoever does it, however often it is killed, and no part left at the end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from uldscale.data import images
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.data.listing import Split, list_records
from uldscale.data.sources import Record
from uldscale.errors import DataError
from uldscale.runtime.roles import RuntimeConfig, Team
from uldscale.stages import index as stage
from uldscale.stages import index_worker
from uldscale.stages.index import build_index, read_index
from uldscale.stages.index_worker import chunks

ALONE = RuntimeConfig(ray=False)
KILLED = """
import sys
from uldscale.data.index import DataConfig
from uldscale.runtime.roles import RuntimeConfig
from uldscale.stages import index_worker
from uldscale.stages.index import build_index
index_worker.CHUNK = 4
build_index(DataConfig(kind="folder", train=sys.argv[1]), sys.argv[2], RuntimeConfig(ray=False))
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Forty images in chunks of four, of which two are broken."""
    monkeypatch.setattr(index_worker, "CHUNK", 4)
    (tmp_path / "faces").mkdir()
    for seed in range(40):
        pixels = np.random.default_rng(seed).integers(0, 256, (20 + seed, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "faces" / f"{seed:02d}.png")
    for name in ("07", "33"):
        (tmp_path / "faces" / f"{name}.png").write_text("no image")
    return DataConfig(kind="folder", train=str(tmp_path / "faces"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the images that this process opens."""
    seen: list[str] = []
    fetched = images.fetched

    def note(uri: str, *rest: Any) -> Any:
        seen.append(os.path.basename(uri))
        return fetched(uri, *rest)

    monkeypatch.setattr(images, "fetched", note)
    return seen


def expected(config: DataConfig, folder: Path) -> bytes:
    """The index that one process makes in memory."""
    ImageIndex.build(config).write(str(folder / "expected.parquet"))
    return (folder / "expected.parquet").read_bytes()


def test_chunks_make_the_index_of_one_piece(config: DataConfig, tmp_path: Path, opened: list[str]) -> None:
    index = build_index(config, str(tmp_path / "run" / "index.parquet"), ALONE)
    assert sorted(opened) == sorted(path.name for path in (tmp_path / "faces").iterdir())
    assert (tmp_path / "run" / "index.parquet").read_bytes() == expected(config, tmp_path)
    assert index.table.equals(ImageIndex.read(str(tmp_path / "run" / "index.parquet")).table, check_metadata=True)
    assert sorted(os.listdir(tmp_path / "run")) == ["index.parquet", "progress", "quarantined.json"]
    told = json.loads((tmp_path / "run" / "progress" / "index.json").read_text())
    assert (told["done"], told["total"]) == (40, 40)


@pytest.mark.parametrize("parts", [0, 1, 6, 10])
def test_a_kill_costs_the_chunks_in_work(config: DataConfig, tmp_path: Path, opened: list[str], parts: int) -> None:
    """SIGKILL as soon as so many parts are at rest, again and again; nothing is opened twice after it is at rest."""
    path, folder = tmp_path / "run" / "index.parquet", tmp_path / "run" / "index.parts"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "faces"), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(folder.glob("*.parquet"))) < parts and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list(folder.glob("*.parquet")))
    if not path.exists():
        build_index(config, str(path), ALONE)
        assert len(opened) == 40 - 4 * there
    assert path.read_bytes() == expected(config, tmp_path)


def test_a_kill_at_the_very_end_leaves_no_part(config: DataConfig, tmp_path: Path) -> None:
    path = str(tmp_path / "run" / "index.parquet")
    build_index(config, path, ALONE)
    (tmp_path / "run" / "index.parts").mkdir()
    (tmp_path / "run" / "index.parts" / "000000-0123456789abcdef.parquet").touch()
    build_index(config, path, ALONE)
    assert not (tmp_path / "run" / "index.parts").exists()


def test_parts_of_other_records_or_settings_are_not_taken(config: DataConfig, tmp_path: Path) -> None:
    listed = list_records(config)

    def part(listed: Sequence[tuple[Split, Record]], config: DataConfig = config) -> str:
        return chunks(listed, config, "")[0].part

    split, record = listed[2]
    changes: list[dict[str, Any]] = [
        {"id": "x"},
        {"uri": "x"},
        {"landmarks": np.zeros((1, 2), np.float32)},
        {"visible": np.ones(1, bool)},
        {"yaw": 1.0},
        {"box": (0, 0, 1, 1)},
        {"extent": (1, 1)},
        {"broken": "x"},
    ]
    others = [part([*listed[:2], (split, replace(record, **change)), *listed[3:]]) for change in changes]
    others.append(part([*listed[:2], ("test", record), *listed[3:]]))
    others.append(part(listed, DataConfig.model_validate({**config.model_dump(), "roi": {"context": 0.1}})))
    assert len({part(listed), *others}) == 1 + len(changes) + 2
    assert part(listed) == part(list_records(config))


def test_an_interrupted_index_of_other_settings_begins_anew(config: DataConfig, tmp_path: Path) -> None:
    path = str(tmp_path / "run" / "index.parquet")
    work = chunks(list_records(config), config, str(tmp_path / "run" / "index.parts"))
    worker = index_worker.Blueprint(config, None)()
    worker.setup()
    for chunk in work[:3]:
        worker.process(chunk)
    wide = DataConfig.model_validate({**config.model_dump(), "roi": {"context": 0.1}})
    index = build_index(wide, path, ALONE)
    assert index.config_fingerprint == wide.fingerprint()
    assert read_index(config, path) is None
    assert not (tmp_path / "run" / "index.parts").exists()


def test_a_split_without_an_image_is_told_at_the_end(config: DataConfig, tmp_path: Path) -> None:
    for path in (tmp_path / "faces").iterdir():
        path.write_text("no image")
    with pytest.raises(DataError, match="data.train: none of 40 images can be used"):
        build_index(config, str(tmp_path / "run" / "index.parquet"), ALONE)
    Image.new("RGB", (20, 20)).save(tmp_path / "faces/00.png")
    index = build_index(config, str(tmp_path / "run" / "index.parquet"), ALONE)
    assert [index.row(row).id for row in index.rows("train")] == ["00"]


def test_parts_of_other_boxes_are_not_taken(config: DataConfig, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.json"
    boxed = DataConfig.model_validate({**config.model_dump(), "roi": {"provider": "file", "file": str(boxes)}})
    parts = []
    for text in ('{"00": [0, 0, 9, 9]}', '{"00": [0, 0, 8, 8]}'):
        boxes.write_text(text)
        parts.append(chunks(list_records(boxed), boxed, "")[0].part)
    assert len(set(parts)) == 2


def test_what_an_error_says_of_a_chunk_is_short(config: DataConfig) -> None:
    assert str(chunks(list_records(config), config, "parts")[0]).count("png") == 0


@pytest.mark.cluster
@pytest.mark.parametrize(("images", "pooled"), [(1, True), (41, False)])
def test_in_a_cluster_actors_do_many_images(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str], images: int, pooled: bool
) -> None:
    """Two real actors write the parts; few images stay in this process, and so do all without a cluster."""
    monkeypatch.setattr(stage, "POOL_IMAGES", images)
    monkeypatch.setattr(stage, "in_cluster", lambda: True)
    runtime = RuntimeConfig(extract=Team(count=2))
    path = tmp_path / "run" / "index.parquet"
    build_index(config, str(path), runtime)
    assert (len(opened) == 0) == pooled
    assert path.read_bytes() == expected(config, tmp_path)


GENERATED = DataConfig.model_validate({"kind": "faces3d", "train": 5, "test": 4, "size": 32, "roi": {"context": 0.1}})


def test_a_generated_image_is_rendered_once(tmp_path: Path, rendered: list[str]) -> None:
    path = tmp_path / "run" / "index.parquet"
    build_index(GENERATED, str(path), ALONE)
    index = read_index(GENERATED, str(path))
    assert index is not None
    for row in range(len(index)):
        index.load(row, 32)
    assert len(rendered) == len(index) == 9
    assert path.read_bytes() == expected(GENERATED, tmp_path)


@pytest.mark.cluster
def test_actors_render_on_one_machine_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rendered: list[str]) -> None:
    monkeypatch.setattr(index_worker, "CHUNK", 4)
    monkeypatch.setattr(stage, "POOL_RENDERS", 9)
    path = tmp_path / "run" / "index.parquet"
    build_index(GENERATED, str(path), RuntimeConfig(extract=Team(count=2)))
    index = read_index(GENERATED, str(path))
    assert index is not None
    for row in range(len(index)):
        index.load(row, 32)
    assert rendered == []
    assert path.read_bytes() == expected(GENERATED, tmp_path)
