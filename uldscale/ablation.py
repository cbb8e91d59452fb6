"""The story of a table: one job over several seeds, on one index and one feature store (paper, Table 2).

runs/<name>/index.parquet  store.zarr     shared
runs/<name>/seed-0  seed-1  …             a run folder each
runs/<name>/ablation.json                 every number of every method: mean, spread, values by seed
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from uldscale import files
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.stages.tables import title_of

_SHOWN = (
    r"nme\.[^.]+\.(forward|backward)|detection_rate|consistency_px|silhouette|calinski_harabasz|pose_purity|pose_nmi"
)


class Ablation:
    """The runs of a job with seeds 0 to `seeds` - 1."""

    def __init__(self, job: Job, seeds: int) -> None:
        self._shared = Pipeline(job)
        self._seeds = seeds

    @property
    def path(self) -> str:
        """The table, JSON."""
        return files.join(self._shared.run.root, "ablation.json")

    def run_all(self) -> dict[str, Any]:
        """Do what is missing of all runs; writes and returns the table."""
        self._shared.extract()
        results = [self._run(seed).run_all() for seed in range(self._seeds)]
        table = {"seeds": self._seeds, "dataset": results[0]["dataset"], **spread(results)}
        files.write_json(self.path, table)
        return table

    def _run(self, seed: int) -> Pipeline:
        job = self._shared.job
        return self._shared.beside(
            f"seed-{seed}", zero_shot=job.zero_shot.updated(seed=seed), train=job.train.updated(seed=seed)
        )


def spread(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Baselines, and for every method its numbers by dotted name: {"mean", "std" of a sample, "values" by seed}.

    A number that a run lacks leaves its mean to the others; the spread of one value is 0.
    """
    numbers = [
        {method: dict(_numbers(measures)) for method, measures in result["methods"].items()} for result in results
    ]
    methods = {
        method: {name: _summary([run.get(method, {}).get(name) for run in numbers]) for name in names}
        for method, names in numbers[0].items()
    }
    return {"methods": methods, "baselines": results[0]["baselines"]}


def print_table(table: dict[str, Any]) -> None:
    """Print mean ± standard deviation of the numbers that the paper's tables show."""
    several = table["seeds"] > 1
    what = f"mean ± standard deviation of {table['seeds']} seeds" if several else "one seed, so no spread"
    shown = Table(title=f"{what}; NME in %, lower is better")
    measured = dict.fromkeys(name for numbers in table["methods"].values() for name in numbers)
    names = [name for name in measured if re.fullmatch(_SHOWN, name)]
    for heading in ("method", *(name.removeprefix("nme.").replace(".", " ") for name in names)):
        shown.add_column(heading, justify="left" if heading == "method" else "right")
    for method, numbers in table["methods"].items():
        cells = (_cell(numbers[name], several) if name in numbers else "" for name in names)
        shown.add_row(title_of(method), *cells)
    Console().print(shown)


def _cell(summary: dict[str, Any], several: bool) -> str:
    spread = f" ± {summary['std']:.2f}" if several else ""
    return f"{summary['mean']:.2f}{spread}"


def _numbers(measures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in measures.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, float):
            yield prefix + name, value


def _summary(values: list[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    deviation = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return {"mean": float(np.mean(known)), "std": deviation, "values": values}
