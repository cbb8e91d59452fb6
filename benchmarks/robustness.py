"""How much worse are landmarks on pictures unlike those of the training?

    python benchmarks/robustness.py runs/faces68 --images 200

The detector of a finished run looks at test images as they are, in grey, in the dark, blurred, noisy, badly compressed, and at crops that
are looser, tighter or off centre. Regressors are fitted on the run's training images as they are. Prints one JSON line: forward and
backward NME (the run's first protocol), share of landmarks found, and mean move in pixels of the image, by change.
"""

import argparse
import io
import json
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from uldscale.data.index import ImageIndex
from uldscale.detector import LandmarkDetector
from uldscale.evaluation import nme
from uldscale.runs import RunFolder
from uldscale.stages.landmarks import landmarks_of
from uldscale.stages.truth import Truth
from uldscale.training.schedule import Stage

Pixels = NDArray[np.uint8]
SIGMA = 12.0  # of the noise, in grey levels


def grey(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).convert("L").convert("RGB"))


def dark(image: Pixels) -> Pixels:
    return (255 * (image / 255.0) ** 2).astype(np.uint8)


def blurred(image: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.5)))


def noisy(image: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, SIGMA, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def compressed(image: Pixels) -> Pixels:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=15)
    return np.asarray(Image.open(content).convert("RGB"))


PICTURES: dict[str, Callable[[Pixels], Pixels]] = {
    "as_it_is": lambda image: image,
    "grey": grey,
    "dark": dark,
    "blurred": blurred,
    "noisy": noisy,
    "compressed": compressed,
}
CROPS = {"looser": (1.3, 0.0), "tighter": (0.85, 0.0), "off_centre": (1.0, 0.1)}
"""Side, and shift to the right and down, as shares of the crop."""


def box(side: int, scale: float, shift: float) -> tuple[float, float, float, float]:
    first = side * (0.5 + shift - scale / 2)
    return first, first, first + side * scale, first + side * scale


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("run")
    options.add_argument("--images", type=int, default=200)
    given = options.parse_args()
    run = RunFolder(given.run)
    index, detector = ImageIndex.read(run.index), LandmarkDetector.from_pretrained(run.model)
    size = detector.config.image_size
    truth = Truth.of(index)
    assert truth is not None, "the run has no annotated test images"
    rows = truth.test[np.linspace(0, len(truth.test) - 1, min(given.images, len(truth.test))).astype(int)]
    images = [index.load(int(row), size) for row in rows]
    fitted = landmarks_of(index, run, Stage.D_ULD_PP.value).points[truth.train] * truth.scale[truth.train]
    protocol, known = truth.protocols(None)[0], truth.points
    found = {name: detector([change(image) for image in images]).points for name, change in PICTURES.items()}
    found |= {name: detector(images, [box(size, *crop)] * len(images)).points for name, crop in CROPS.items()}
    result = {}
    for name, points in found.items():
        errors = nme.evaluate(fitted, known[truth.train], points * truth.scale[rows] / size, known[rows], protocol, 0)
        result[name] = {
            "forward": round(errors.forward, 2),
            "backward": round(errors.backward, 2),
            "found": round(float(nme.detection_rate(points).mean()), 3),
            "moved_px": round(float(np.nanmean(np.linalg.norm(points - found["as_it_is"], axis=-1))), 2),
        }
    print(
        json.dumps({"run": given.run, "protocol": protocol.name, "images": len(rows), "side": size, "changes": result})
    )


if __name__ == "__main__":
    main()
