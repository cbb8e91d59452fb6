"""jobs/quickstart.py as a user runs it, with settings as small as can be."""

import subprocess
import sys
from pathlib import Path

from PIL import Image

from uldscale.data.faces3d import render
from uldscale.detector import LandmarkDetector

ROOT = Path(__file__).parents[2]
TINY = [
    "data.size=64", "extract.features.timesteps=[50]", "extract.features.taps=[up_blocks.1.resnets.2,up_blocks.2.resnets.2]",
    "extract.features.codec.channels=8", "extract.features.codec.sample=4", "extract.views.count=2", "extract.store.rows_per_shard=6",
    "zero_shot.fit_images=8", "zero_shot.fit_pixels=20", "zero_shot.pixels=30", "train.batch=4", "train.warmup_steps=2",
    "train.network.grid=16", "train.network.aggregator.hidden=8", "train.network.aggregator.width=12",
    "train.network.heads.descriptor=8", "train.clusters.landmarks=3", "train.clusters.poses=2",
    *(f"train.{stage}.epochs=0.67" for stage in ("bootstrap", "d_uld", "d_uld_pose_proxy", "d_uld_pp")),
    *(f"train.{stage}.relabel_epochs=0.67" for stage in ("d_uld", "d_uld_pp")),
]  # fmt: skip


def test_from_a_folder_to_landmarks(tmp_path: Path) -> None:
    (tmp_path / "faces").mkdir()
    for number in range(12):
        Image.fromarray(render(number, size=64).image).save(tmp_path / "faces" / f"{number:02d}.png")
    command = [sys.executable, str(ROOT / "jobs/quickstart.py"), "faces", *TINY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("landmark 2: ") == 5
    assert (tmp_path / "runs/quickstart/report.html").is_file()
    assert LandmarkDetector.from_pretrained(tmp_path / "landmarks-of-mine").names == ("0", "1", "2")
