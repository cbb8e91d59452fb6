"""The verbs `store info` and `store verify`."""

import json

import typer

from uldscale.errors import IncompleteError
from uldscale.store.features import FeatureStore


def print_info(root: str) -> None:
    """Print what a store holds, how good its codec is, and what made it, as JSON."""
    store = FeatureStore.open(root)
    typer.echo(json.dumps({**store.info(), "codec": _measures(store)}, indent=2))


def _measures(store: FeatureStore) -> dict[str, dict[str, float]]:
    """What was measured of the codec by tap: the single numbers among its arrays."""
    found: dict[str, dict[str, float]] = {}
    for name, array in store.read_codec().items():
        tap, _, measure = name.rpartition("/")
        if array.ndim == 0:
            found.setdefault(tap, {})[measure] = round(float(array), 5)
    return found


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
