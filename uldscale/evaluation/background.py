"""What of a crop is background, told from the image alone: what can be reached from the crop's edge without crossing a contour.

After geodesic saliency (Wei et al., ECCV 2012). Legend: S side of the crop in pixels, G of the grid on which paths are sought.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import maximum_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

GRID = 48
"""G: fine enough for a contour, and milliseconds an image."""
SLIP = 0.02
"""A step along which colours, 0 to 1, differ by less costs nothing: noise and shading must not add up over a long way."""
REACH = 3
"""Cells around a landmark, of which the best counts: on the contour of an object is on the object."""


def depths(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(G, G) how much colour (0 to 1) changes on the easiest way from the edge of a crop (S, S, 3) to each cell."""
    small = np.asarray(Image.fromarray(image).resize((GRID, GRID), Image.Resampling.BOX), float) / 255
    cells = np.arange(GRID * GRID).reshape(GRID, GRID)
    sources, targets, costs = [], [], []
    for ahead, behind in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        change = np.abs(small[ahead] - small[behind]).mean(-1)
        sources.append(cells[behind].ravel())
        targets.append(cells[ahead].ravel())
        # Sparse graphs take a cost of 0 for no way.
        costs.append(np.maximum(1e-9, change - SLIP).ravel())
    graph = coo_array(
        (np.concatenate(costs), (np.concatenate(sources), np.concatenate(targets))), shape=(cells.size,) * 2
    )
    edge = np.unique(np.concatenate([cells[0], cells[-1], cells[:, 0], cells[:, -1]]))
    return np.asarray(dijkstra(graph.tocsr(), directed=False, indices=edge, min_only=True)).reshape(GRID, GRID)


def ranks(image: NDArray[np.uint8], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """(K,) share of the cells of a crop (S, S, 3) that are reached as easily as the one of each landmark (K, 2), in unit coordinates:
    0.5 is chance, near 1 the middle of an object, near 0 what surrounds it; NaN for a missing landmark.
    """
    deep = maximum_filter(depths(image), REACH)
    found = np.isfinite(points).all(-1)
    columns, rows = np.clip(np.where(found[:, None], points, 0) * GRID, 0, GRID - 1).astype(int).T
    shares = np.searchsorted(np.sort(deep, axis=None), deep[rows, columns], side="right") / deep.size
    return np.where(found, shares, np.nan)
