"""How fast are random samples of real size read, against other formats and libraries with the same content?

    pip install -e .[bench]
    pip install --no-deps litdata mosaicml-streaming     # and by hand what they import: they would replace torch and numpy
    python benchmarks/store_read.py

Features of SD 1.5 at 512 px with 64 channels in int8, 2 views and 2 timesteps: 2 MB a sample. Every peer is asked, in one
process, for the same seeded batches of 16 images in 2 views and gives (B, T, L, C, H, W) by resolution. Rounds of all
peers alternate, so that a busy machine hits all alike; the median counts. In warm rounds the files are in the page
cache, in cold ones they are dropped from it by posix_fadvise before each peer's turn (a virtual disk may still have them).
The three readers of our store check the crc32c of every byte, the others check nothing. A peer that is not installed is
null, with the reason. Mind the free disk: six times --gib; memory: twice. Prints one JSON line.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import deque
from contextlib import redirect_stdout
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
from store_read_peers import BATCH, PEERS, Content, Read

LIBRARIES = ("numpy", "tensorstore", "zarr", "webdataset", "mosaicml-streaming", "litdata", "h5py")


def prepared(content: Content) -> tuple[dict[str, Read], dict[str, str]]:
    """The peers that are there, each with its copy of the content and checked, and why the others are not."""
    ready, absent = {}, {}
    for peer in PEERS:
        try:
            ready[peer.__name__] = peer(content)
        except ImportError as error:
            absent[peer.__name__] = str(error)
    requests, whole = content.requests(0, 4), content.open()
    for name, read in ready.items():
        for request, batch in zip(requests, read(requests), strict=True):
            right = all(np.array_equal(batch[key], maps[request]) for key, maps in whole.items())
            assert right or name == "webdataset", f"{name} reads something else"
    return ready, absent


def drop(folder: Path) -> None:
    """Make the kernel forget the files' content."""
    os.sync()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def measure(content: Content, peers: dict[str, Read], rounds: int, batches: int, cold: bool) -> dict[str, float]:
    """Median MB/s by peer."""
    size = batches * BATCH * content.spec.row_bytes / 1e6
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(rounds):
        requests = content.requests((turn + 1) * batches, batches)
        for name, read in peers.items():
            if cold:
                drop(content.folder)
            start = time.perf_counter()
            deque(read(requests), maxlen=0)
            rates[name].append(size / (time.perf_counter() - start))
    return {name: round(float(np.median(values))) for name, values in rates.items()}


def report(rates: dict[str, float], absent: dict[str, str]) -> dict[str, Any]:
    ratios = {name: round(rates["uldscale"] / rate, 2) for name, rate in rates.items() if name != "uldscale"}
    return {"mb_per_s": {**rates, **dict.fromkeys(absent)}, "uldscale_over": {**ratios, **dict.fromkeys(absent)}}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--gib", type=float, default=1.2, help="size of the content; our readers cache 0.25")
    options.add_argument("--rounds", type=int, default=9, help="turns of each peer, warm")
    options.add_argument("--cold-rounds", type=int, default=3)
    options.add_argument("--batches", type=int, default=8, help="batches in a turn")
    options.add_argument("--folder", help="disk to measure; a temporary folder is made in it")
    given = options.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, redirect_stdout(sys.stderr):
        content = Content(Path(folder), given.gib)
        peers, absent = prepared(content)
        warm = measure(content, peers, given.rounds, given.batches, cold=False)
        del peers["memcpy"]
        cold = measure(content, peers, given.cold_rounds, given.batches, cold=True)
    result = {"warm": report(warm, absent), "cold": report(cold, absent), "absent": absent}
    sizes = {"sample_bytes": content.spec.row_bytes // 2, "samples": 2 * content.spec.num_rows, "batch": 2 * BATCH}
    setting = {"rounds": given.rounds, "cold_rounds": given.cold_rounds, "batches": given.batches}
    versions = {library.name: library.version for library in distributions() if library.name in LIBRARIES}
    print(json.dumps({**result, **sizes, **setting, "cpus": os.cpu_count(), "versions": versions}))


if __name__ == "__main__":
    main()
