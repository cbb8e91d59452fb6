"""The story of a table: one job over several seeds, on one index and one feature store (paper, Table 2).

runs/<name>/index.parquet  store.zarr     shared
runs/<name>/seed-0  seed-1  …             a run folder each
runs/<name>/ablation.json                 every number of every method: mean, spread, values by seed
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from uldscale import files
from uldscale.job import Job
from uldscale.pipeline import Pipeline
from uldscale.stages.evaluate import STANDARDS
from uldscale.stages.tables import MEASURES, title_of

OTHERS = ("detection_rate", "consistency_px", "visibility_auc", "pose_purity")
"""Measures that are printed beside the errors; so many have room on a terminal, and the file has all."""


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
        self._shared.require_possible()
        self._shared.extract()
        results = [self._run(seed).run_all() for seed in range(self._seeds)]
        table = {
            "seeds": self._seeds,
            "dataset": results[0]["dataset"],
            "shown": results[0]["shown"],
            **spread(results),
        }
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
    """Print mean ± standard deviation: errors, their differences image by image from those of other methods, and other measures."""
    several, methods = table["seeds"] > 1, table["methods"].items()
    what = f"mean ± standard deviation of {table['seeds']} seeds" if several else "one seed, so no spread"
    errors = [f"{protocol}.{direction}" for protocol in table["shown"] for direction in ("forward", "backward")]
    rows = [(title_of(method), [numbers.get(f"nme.{name}") for name in errors]) for method, numbers in methods]
    for (method, numbers), other in product(methods, STANDARDS):
        apart = [numbers.get(f"against.{other}.{name}.mean") for name in errors]
        if any(apart):
            rows.append((f"{title_of(method)} minus {title_of(other)}", apart))
    if errors:
        headings = [f"{name.replace('.', ' ')} ↓" for name in errors]
        _print(f"{what}; NME in %, lower is better", headings, rows, several)
    others = [name for name in OTHERS if any(name in numbers for _, numbers in methods)]
    rows = [(title_of(method), [numbers.get(name) for name in others]) for method, numbers in methods]
    _print(what, [MEASURES[name].heading for name in others], rows, several)


def _print(title: str, headings: list[str], rows: list[tuple[str, list[dict[str, Any] | None]]], several: bool) -> None:
    shown = Table(title=title)
    shown.add_column("method")
    for heading in headings:
        shown.add_column(heading, justify="right")
    for method, summaries in rows:
        shown.add_row(method, *(_cell(summary, several) if summary else "" for summary in summaries))
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
