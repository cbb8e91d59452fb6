"""The verbs `store info` and `store verify`."""

import json

import typer

from uldscale.errors import IncompleteError
from uldscale.store.features import FeatureStore


def print_info(root: str) -> None:
    """Print what a store holds and what made it, as JSON."""
    typer.echo(json.dumps(FeatureStore.open(root).info(), indent=2))


def verify(root: str, *, repair: bool) -> None:
    """Check every committed shard. Raises IncompleteError when shards are bad, repaired or not: a run has to write them again."""
    store = FeatureStore.open(root)
    committed = store.spec.num_shards - len(store.missing_shards())
    bad = store.verify(repair=repair)
    typer.echo(
        f"{committed - len(bad)} of {committed} committed shards are good, {store.spec.num_shards - committed} are missing"
    )
    if bad:
        names = ", ".join(map(str, bad))
        step = "their records are dropped: run the job again" if repair else "run with --repair, then the job again"
        raise IncompleteError(f"shards {names} are damaged; {step}")
