"""The exported heads say what the detector says, for any number of images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from uldscale.detector import LandmarkDetector
from uldscale.landmarks import Landmarks
from uldscale.stages.export import OUTPUTS, example, export


@pytest.fixture
def detector(untrained: str) -> LandmarkDetector:
    return LandmarkDetector.from_pretrained(untrained)


def features(detector: LandmarkDetector, images: int) -> list[torch.Tensor]:
    random = torch.Generator().manual_seed(images)
    return [
        torch.randint(-127, 128, each.shape, dtype=torch.int8, generator=random) for each in example(detector, images)
    ]


def located(detector: LandmarkDetector, given: list[torch.Tensor]) -> Landmarks:
    return detector.locate(dict(zip(detector.network.aggregator.taps, given, strict=True)))


def require_equal(found: list[np.ndarray], wanted: Landmarks) -> None:
    for name, values in zip(OUTPUTS, found, strict=True):
        np.testing.assert_allclose(values, getattr(wanted, name), atol=1e-4, err_msg=name)


@pytest.fixture
def of_peaks(detector: LandmarkDetector, tmp_path: Path) -> str:
    """The same detector, which takes its landmarks among the peaks of the heatmap."""
    keypoints = detector.config.keypoints.updated(source="peaks")
    detector.config = detector.config.updated(keypoints=keypoints)
    detector.save_pretrained(tmp_path / "peaks")
    return str(tmp_path / "peaks")


def test_landmarks_among_peaks(of_peaks: str, tmp_path: Path) -> None:
    export(of_peaks, str(tmp_path / "heads.pt2"), "torch")
    program, own = torch.export.load(tmp_path / "heads.pt2").module(), LandmarkDetector.from_pretrained(of_peaks)
    for images in (1, 2, 5):
        given = features(own, images)
        require_equal([values.detach().numpy() for values in program(*given)], located(own, given))


def test_torch(untrained: str, detector: LandmarkDetector, tmp_path: Path) -> None:
    export(untrained, str(tmp_path / "heads.pt2"), "torch")
    program = torch.export.load(tmp_path / "heads.pt2").module()
    for images in (1, 2, 5):
        given = features(detector, images)
        require_equal([values.detach().numpy() for values in program(*given)], located(detector, given))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx(untrained: str, detector: LandmarkDetector, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="ONNX wants onnxruntime")
    pytest.importorskip("onnxscript", reason="ONNX wants onnxscript, the extra `export`")
    export(untrained, str(tmp_path / "heads.onnx"), "onnx")
    session = runtime.InferenceSession(str(tmp_path / "heads.onnx"))
    names = [each.name for each in session.get_inputs()]
    assert names == list(detector.network.aggregator.taps)
    assert [each.name for each in session.get_outputs()] == list(OUTPUTS)
    for images in (1, 2, 5):
        given = features(detector, images)
        found = session.run(None, {name: values.numpy() for name, values in zip(names, given, strict=True)})
        require_equal(found, located(detector, given))
