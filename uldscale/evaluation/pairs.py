"""Two measures over numbers of landmarks and poses, as PNG bytes (paper, Figure 8)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from uldscale.evaluation.canvas import INK, png
from uldscale.evaluation.plots import finish

PRINTED_DPI = 160


def table_of_pairs(
    pairs: Sequence[Sequence[Sequence[float]]],
    columns: Sequence[int],
    rows: Sequence[int],
    title: str,
    weights: tuple[float, float] = (0.5, 0.5),
) -> bytes:
    """A table of two measures: `pairs` of each row and column, coloured by what they are together with `weights`, green for the least.

    columns: numbers of landmarks K; rows: numbers of poses Q; NaN where there is no measure.
    """
    values = np.asarray(pairs, float)
    figure = Figure(figsize=(2.2 + 1.3 * len(columns), 1.4 + 0.6 * len(rows)), dpi=PRINTED_DPI, layout="constrained")
    axes = figure.subplots()
    axes.imshow(values @ np.asarray(weights), cmap="RdYlGn_r", alpha=0.45, aspect="auto")
    finish(axes, title, "landmarks K", "poses Q")
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), [str(count) for count in columns])
    axes.set_yticks(range(len(rows)), [str(count) for count in rows])
    for row, column in np.ndindex(values.shape[:2]):
        first, second = values[row, column]
        axes.text(column, row, f"{first:.2f} / {second:.2f}", ha="center", va="center", fontsize=9, color=INK)
    return png(figure)
