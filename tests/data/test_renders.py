"""Generated images that are kept: rendered once, and the same pixels as if each were rendered again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uldscale.data import renders
from uldscale.data.index import DataConfig, ImageIndex
from uldscale.data.inspection import Inspector
from uldscale.data.listing import list_records
from uldscale.data.renders import Renders

FACES = DataConfig.model_validate(
    {"kind": "faces3d", "train": 5, "test": 3, "size": 32, "max_yaw": 37.5, "roi": {"context": 0.1}}
)


@pytest.fixture
def index(tmp_path: Path) -> ImageIndex:
    """Of images that are kept beside it, three of them in a file of their own."""
    path = str(tmp_path / "index.parquet")
    inspector = Inspector(FACES, renders=Renders(Renders.beside(path)))
    ImageIndex.join([inspector.inspect(list_records(FACES))], FACES).write(path)
    return ImageIndex.read(path)


def crops(index: ImageIndex) -> list[Any]:
    return [index.load(row, 24) for row in range(len(index))]


def test_what_is_kept_is_not_rendered_again(index: ImageIndex, rendered: list[str]) -> None:
    kept = crops(index)
    assert rendered == []
    np.testing.assert_array_equal(kept, crops(ImageIndex(index.table)))
    assert len(rendered) == len(index) == 8


@pytest.mark.parametrize("harm", ["gone", "cut", "flipped"])
def test_what_is_missing_or_damaged_is_rendered_again(
    index: ImageIndex, tmp_path: Path, rendered: list[str], harm: str
) -> None:
    (file,) = (tmp_path / "renders").glob("32-37.5-0")
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:5000] if harm == "cut" else content)
    found = crops(index)
    again = {"gone": 5, "cut": 4, "flipped": 1}[harm]
    assert len(rendered) == again
    np.testing.assert_array_equal(found, crops(ImageIndex(index.table)))


def test_an_image_of_another_checksum_is_not_that_of_the_row(index: ImageIndex, tmp_path: Path) -> None:
    """Another processor may have rendered it, or another version."""
    kept, row = Renders(str(tmp_path / "renders")), index.row(2)
    assert kept.find(row) is not None
    assert kept.find(replace(row, crc32c=row.crc32c ^ 1)) is None
    assert kept.find(replace(row, uri="somewhere/a.png")) is None


def test_an_index_without_them_makes_no_folder(index: ImageIndex, tmp_path: Path) -> None:
    index.write(str(tmp_path / "other" / "index.parquet"))
    crops(ImageIndex.read(str(tmp_path / "other" / "index.parquet")))
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["index.parquet"]


def test_the_folder_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room is no error: it is rendered when it is wanted."""
    monkeypatch.setattr(renders, "GIB", 100_000 / 2**30)
    kept = Renders(str(tmp_path / "renders"))
    for seed in range(0, 30_000, 1000):
        kept.keep(f"faces3d:64/90/{seed}", np.zeros((64, 64, 3), np.uint8))
    used = sum(file.stat().st_blocks * 512 for file in (tmp_path / "renders").iterdir())
    assert 0 < used <= 100_000
