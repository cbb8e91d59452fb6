"""Forward and backward NME over numbers of landmarks and poses, as PNG bytes (paper, Figure 8)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from uldscale.evaluation.canvas import INK, png
from uldscale.evaluation.plots import finish

PRINTED_DPI = 160


def table_of_pairs(
    pairs: Sequence[Sequence[Sequence[float]]], columns: Sequence[int], rows: Sequence[int], title: str
) -> bytes:
    """A table of (forward, backward) in percent: `pairs` of each row and column, coloured by their mean, green for the least.

    columns: numbers of landmarks K; rows: numbers of poses Q.
    """
    values = np.asarray(pairs, float)
    figure = Figure(figsize=(2.2 + 1.3 * len(columns), 1.4 + 0.6 * len(rows)), dpi=PRINTED_DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(values.mean(-1), cmap="RdYlGn_r", alpha=0.45, aspect="auto")
    finish(axes, f"forward / backward NME in %, {title}", "landmarks K", "poses Q")
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), [str(count) for count in columns])
    axes.set_yticks(range(len(rows)), [str(count) for count in rows])
    for row, column in np.ndindex(values.shape[:2]):
        forward, backward = values[row, column]
        axes.text(column, row, f"{forward:.2f} / {backward:.2f}", ha="center", va="center", fontsize=9, color=INK)
    return png(figure)
