"""Whether one method is better than another: their errors on the same images, image by image.

The mean difference of two methods is known far better than either mean, since hard images are hard for both.

Legend: n images.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 2000
SHARE = 0.95
"""Of the resamples whose means lie in the interval."""


@dataclass(frozen=True)
class Difference:
    """Mean of ours minus theirs, in the unit of the errors; below 0 ours is better."""

    mean: float
    low: float
    """Of the bootstrap interval (Efron 1979, percentiles) over images."""
    high: float
    images: int
    """On which both have an error."""


def difference(ours: ArrayLike, theirs: ArrayLike, seed: int) -> Difference | None:
    """Of errors (n,), NaN where an image has none; None when no image has both. `seed` draws the resamples."""
    apart = np.asarray(ours, float) - np.asarray(theirs, float)
    known = apart[np.isfinite(apart)]
    if not len(known):
        return None
    random = np.random.default_rng(seed)
    # One at a time: all of them would take 3.7 GB for LS3D.
    means = [known[random.integers(len(known), size=len(known))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [50 * (1 - SHARE), 50 * (1 + SHARE)])
    return Difference(float(known.mean()), float(low), float(high), len(known))
