"""The detector as people use it: from a folder or the hub, on images, and back into a folder or onto the hub."""

import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from uldscale import files
from uldscale.data.faces3d import render
from uldscale.detector import LandmarkDetector
from uldscale.detector_card import write_card
from uldscale.errors import ConfigError, DataError, ModelError, UserError

FACES = [render(5_000_000 + number, size=64).image for number in range(5)]


@pytest.fixture
def folder(untrained: str, tmp_path: Path) -> Path:
    """A copy, to be damaged at will."""
    return Path(shutil.copytree(untrained, tmp_path / "model"))


def changed(folder: Path, **changes: object) -> None:
    config = files.read_json(str(folder / "config.json"))
    files.write_json(str(folder / "config.json"), config | changes)


def test_a_folder_comes_back_as_it_was(
    folder: Path, tmp_path: Path, content: Callable[[str], dict[str, bytes]]
) -> None:
    detector = LandmarkDetector.from_pretrained(folder)
    detector.save_pretrained(tmp_path / "again")
    assert content(str(tmp_path / "again")) == content(str(folder))
    found = [each(FACES).points for each in (detector, LandmarkDetector.from_pretrained(str(tmp_path / "again")))]
    np.testing.assert_array_equal(*found)


def test_the_size_of_batches_changes_nothing_but_the_last_digits(untrained: str) -> None:
    detector = LandmarkDetector.from_pretrained(untrained)
    whole = detector(FACES)
    assert whole.points.shape == (5, 3, 2)
    assert np.isfinite(whole.points).any()
    for size in (1, 2, 32):
        parts = detector(FACES, batch_size=size)
        np.testing.assert_allclose(parts.points, whole.points, atol=0.02)
        np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-4)
    one = detector(Image.fromarray(FACES[0]), [(0, 0, 64, 64)])
    np.testing.assert_allclose(one.points, whole.points[:1], atol=0.02)


def test_boxes_are_one_for_each_image(untrained: str) -> None:
    detector = LandmarkDetector.from_pretrained(untrained)
    for boxes in ([(0, 0, 9, 9)], [(0, 0, 9, 9), (9, 0, 9, 9)], [(0, 0, float("nan"), 9)] * 2):
        with pytest.raises(DataError, match=r"wanted one \(x0, y0, x1, y1\) .* for each of 2 images"):
            detector(FACES[:2], boxes)


def test_the_arithmetic_of_the_diffusion_model(untrained: str) -> None:
    half = LandmarkDetector.from_pretrained(untrained, dtype="bfloat16")
    assert half.config.features.backbone.dtype == "bfloat16"
    assert np.isfinite(half(FACES[:1]).scores).all()
    with pytest.raises(ConfigError, match="the diffusion model: dtype: .*'int4'"):
        LandmarkDetector.from_pretrained(untrained, dtype="int4")  # type: ignore[arg-type]


def test_names_are_those_in_the_folder(folder: Path) -> None:
    assert LandmarkDetector.from_pretrained(folder)(FACES[:1]).names == ("0", "1", "2")
    changed(folder, names=["nose", "left eye", "right eye"])
    assert LandmarkDetector.from_pretrained(folder)(FACES[:1]).names == ("nose", "left eye", "right eye")
    for wrong in (["nose"], ["nose", "eye", "eye"]):
        changed(folder, names=wrong)
        with pytest.raises(ModelError, match=r"config.json names \d landmarks, but the model has 3"):
            LandmarkDetector.from_pretrained(folder)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "is not a model folder"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda folder: (folder / "config.json").write_bytes(POINTER), "config.json is a Git LFS pointer"),
        (lambda folder: changed(folder, image_size="large"), "config.json: image_size"),
        (lambda folder: (folder / "codec.safetensors").unlink(), "codec.safetensors is not there; a model folder has"),
        (lambda folder: (folder / "network.safetensors").write_bytes(POINTER), "network.safetensors is a Git LFS pointer"),
        (lambda folder: (folder / "network.safetensors").write_bytes(b"x" * 99), "network.safetensors is damaged"),
        (lambda folder: (folder / "clusters.safetensors").write_bytes(b""), "clusters.safetensors is damaged"),
        (lambda folder: shutil.copy(folder / "codec.safetensors", folder / "network.safetensors"), "not of one model"),
        (lambda folder: shutil.copy(folder / "codec.safetensors", folder / "clusters.safetensors"), "not of one model"),
        (lambda folder: changed(folder, network={"grid": 16}), "not of one model"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_one_line(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(UserError, match=message) as raised:
        LandmarkDetector.from_pretrained(folder)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_a_place_that_nobody_can_look_at() -> None:
    with pytest.raises(ModelError, match="model 'odd://bucket/model' cannot be looked for"):
        LandmarkDetector.from_pretrained("odd://bucket/model")


def test_a_diffusion_model_that_is_elsewhere(folder: Path) -> None:
    detector = LandmarkDetector.from_pretrained(folder, backbone="/nowhere/ldm")
    with pytest.raises(ModelError, match="model folder '/nowhere/ldm' is not there; .*predict: --backbone"):
        detector(FACES[:1])


class TestHub:
    """What goes to the hub and comes from it; the client itself is tested in tests/diffusion/test_folder.py."""

    def test_a_model_is_fetched(self, untrained: str, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = {}

        def fetch(repo_id: str, revision: str | None, allow_patterns: list[str]) -> str:
            asked.update(repo_id=repo_id, revision=revision, files=allow_patterns)
            return untrained

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
        assert len(LandmarkDetector.from_pretrained("owner/faces", revision="v1").names) == 3
        assert (asked["repo_id"], asked["revision"]) == ("owner/faces", "v1")
        assert all(name.endswith((".safetensors", ".json", ".md")) for name in asked["files"])

    def test_without_a_hub(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(ModelError, match="'owner/faces' is neither a folder here nor in the cache") as raised:
            LandmarkDetector.from_pretrained("owner/faces")
        assert "\n" not in str(raised.value)

    def test_a_push_without_a_hub_is_one_line(self, untrained: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(ModelError, match="cannot push to 'owner/faces': .*hf auth login") as raised:
            LandmarkDetector.from_pretrained(untrained).push_to_hub("owner/faces")
        assert "\n" not in str(raised.value)

    def test_a_pushed_folder_is_whole_and_tells_nothing_of_this_machine(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def create(repo_id: str, private: bool, exist_ok: bool) -> str:
            return f"https://hub/{repo_id}"

        def upload(repo_id: str, folder_path: str, commit_message: str) -> None:
            shutil.copytree(folder_path, tmp_path / "hub")

        monkeypatch.setattr(huggingface_hub, "create_repo", create)
        monkeypatch.setattr(huggingface_hub, "upload_folder", upload)
        (tmp_path / "my-ldm").mkdir()
        detector = LandmarkDetector.from_pretrained(folder, backbone=str(tmp_path / "my-ldm"))
        assert detector.push_to_hub("owner/faces") == "https://hub/owner/faces"
        there = LandmarkDetector.from_pretrained(tmp_path / "hub")
        assert there.config.features.backbone.model == "my-ldm"
        assert (
            str(tmp_path) not in (tmp_path / "hub/README.md").read_text() + (tmp_path / "hub/config.json").read_text()
        )
        card = ModelCard.load(tmp_path / "hub/README.md")
        assert (card.data.library_name, card.data.pipeline_tag) == ("uldscale", "keypoint-detection")
        assert 'from_pretrained("owner/faces")' in card.text


RESULT = {
    "dataset": {"name": "faces", "train_images": 40, "test_images": 8},
    "methods": {
        "d_uld_pp": {
            "detection_rate": 0.995,
            "consistency_px": 1.5,
            "nme": {
                "68pt-300": {
                    "protocol": "68pt-300", "normaliser": "box", "num_train": 40, "num_test": 8, "forward": 4.25, "backward": 3.0,
                }
            },
        }
    },
}  # fmt: skip


def test_the_card_has_the_numbers_of_the_result(folder: Path) -> None:
    write_card(str(folder), RESULT, "d_uld_pp")
    card = ModelCard.load(folder / "README.md")
    numbers = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert numbers == {"forward NME, 68pt-300, % of box": 4.25, "backward NME, 68pt-300, % of box": 3.0}
    assert "| 68pt-300 | box | 40 | 8 | 4.25 | 3.00 |" in card.text
    assert "99.5 % were found" in card.text
    assert LandmarkDetector.from_pretrained(folder).card == (folder / "README.md").read_text()


def test_no_card_without_a_model(tmp_path: Path) -> None:
    write_card(str(tmp_path / "model"), RESULT, "d_uld_pp")
    assert not (tmp_path / "model").exists()
