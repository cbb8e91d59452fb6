"""The peers of store_read.py: each writes the same samples in its own format and gives batches of them."""

import importlib.util
import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uldscale.store import places
from uldscale.store.features import FeatureStore, open_content
from uldscale.store.reader import FeatureReader, Request
from uldscale.store.spec import StoreSpec, TapSpec

Maps = dict[str, NDArray[np.int8]]
Read = Callable[[list[Request]], Iterator[Maps]]
"""Batches for some requests in turn."""

BATCH = 16
FILE_BYTES = 64 * 2**20
"""Size of a file of the peers that pack samples."""


class Content:
    """The samples in plain .npy files (N, V, T, L, C, H, W), of which every peer has a copy."""

    def __init__(self, folder: Path, gib: float) -> None:
        taps = tuple(TapSpec(f"up.{i}", 64, side) for i, side in enumerate(np.repeat([8, 16, 32, 64], 3).tolist()))
        names = ("model", "weight_hash", "prompt", "mode", "noise", "index")
        rows = int(gib * 2**30 / (2 * 2 * sum(tap.channels * tap.side**2 for tap in taps)))
        self.spec = StoreSpec(
            **dict.fromkeys(names, ""), seed=0, timesteps=(1, 101), taps=taps, views={}, codec={}, dtype="int8",
            image_size=512, num_rows=rows, num_views=2,
        )  # fmt: skip
        self.folder = folder
        self.shapes = {name: (rows, *self.spec.shape(name)[1:]) for name in self.spec.resolutions}
        for name, shape in self.shapes.items():
            array = np.lib.format.open_memmap(self.path(name), "w+", np.int8, shape)
            for row in range(rows):
                array[row] = np.random.default_rng(row).integers(-127, 128, shape[1:], np.int8)

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def open(self) -> Maps:
        return {name: np.load(self.path(name), mmap_mode="r") for name in self.shapes}

    def samples(self) -> Iterator[Maps]:
        """All samples: row by row, view by view."""
        whole = self.open()
        for key in itertools.product(range(self.spec.num_rows), range(self.spec.num_views)):
            yield {name: np.array(maps[key]) for name, maps in whole.items()}

    def empty(self, count: int) -> Maps:
        return {name: np.empty((count, *shape[2:]), np.int8) for name, shape in self.shapes.items()}

    def requests(self, first: int, count: int) -> list[Request]:
        """Batches from number `first` on: epochs are permutations, laid end to end."""
        stream = [divmod(i, self.spec.num_rows) for i in range(first * BATCH, (first + count) * BATCH)]
        rows = [np.random.default_rng(epoch).permutation(self.spec.num_rows)[place] for epoch, place in stream]
        return [(np.tile(part, 2), np.repeat([0, 1], BATCH)) for part in np.split(np.array(rows), count)]

    def one_by_one(self, fill: Callable[[int, int, Maps], None]) -> Read:
        """A reader out of `fill`, which puts the sample of a row and a view into given arrays."""

        def read(requests: list[Request]) -> Iterator[Maps]:
            for rows, views in requests:
                batch = self.empty(len(rows))
                for place, (row, view) in enumerate(zip(rows.tolist(), views.tolist(), strict=True)):
                    fill(row, view, {name: maps[place] for name, maps in batch.items()})
                yield batch

        return read

    def copied(self, get: Callable[[int, int], Maps]) -> Read:
        """A reader out of `get`, which gives the sample of a row and a view."""

        def fill(row: int, view: int, place: Maps) -> None:
            for name, maps in get(row, view).items():
                place[name][...] = maps

        return self.one_by_one(fill)


def uldscale(content: Content) -> Read:
    store = FeatureStore.open_or_create(str(content.folder / "uldscale"), content.spec)
    for shard in range(content.spec.num_shards):
        rows = content.spec.rows_of(shard)
        features = {name: maps[rows.start : rows.stop] for name, maps in content.open().items()}
        store.write_shard(shard, features, np.zeros((len(rows), 2, 3, 3), np.float32), attempt="1", seconds=0)
    return FeatureReader(store).prefetch


def tensorstore(content: Content) -> Read:
    """Its plain reading of our store: as many futures in flight and the same cache."""
    context = places.resources({"cache_pool": {"total_bytes_limit": 2**28}, "file_io_concurrency": {"limit": 32}})
    opened = open_content(places.open_root(str(content.folder / "uldscale"), context), content.spec, context)

    def read(requests: list[Request]) -> Iterator[Maps]:
        pending: deque[dict[str, Any]] = deque()
        for request in requests:
            pending.append({name: opened[name].vindex[request].read() for name in content.shapes})
            if len(pending) > 2:
                yield {name: future.result() for name, future in pending.popleft().items()}
        for reading in pending:
            yield {name: future.result() for name, future in reading.items()}

    return read


def zarr(content: Content) -> Read:
    """Our store, sample by sample: a batch in one selection is 30 times slower, tasks in parallel are no faster."""
    import zarr

    opened = {name: zarr.open_array(content.folder / "uldscale" / name, mode="r") for name in content.shapes}
    return content.copied(lambda row, view: {name: array[row, view] for name, array in opened.items()})


def webdataset(content: Content) -> Read:
    """Sequential, through a shuffle buffer of 64 samples: it cannot read the requested ones."""
    import webdataset

    folder = content.folder / "webdataset"
    folder.mkdir()
    with webdataset.ShardWriter(f"{folder}/%05d.tar", maxsize=FILE_BYTES, verbose=0) as writer:
        for number, sample in enumerate(content.samples()):
            writer.write({"__key__": f"{number:06d}", **{f"{name}.npy": maps for name, maps in sample.items()}})
    files = sorted(map(str, folder.iterdir()))
    samples = iter(webdataset.WebDataset(files, shardshuffle=len(files), seed=0).shuffle(64).decode().repeat())

    def get(row: int, view: int) -> Maps:
        sample = next(samples)
        return {name: sample[f"{name}.npy"] for name in content.shapes}

    return content.copied(get)


def streaming(content: Content) -> Read:
    # Only the part that reads: the package's own __init__ wants torchvision, which has no wheel for a CPU torch.
    package = importlib.util.find_spec("streaming")
    if package is None:
        raise ModuleNotFoundError("No module named 'streaming'")
    sys.modules["streaming"] = importlib.util.module_from_spec(package)
    from streaming.base import MDSWriter, StreamingDataset

    folder = f"{content.folder}/streaming"
    columns = {name: f"ndarray:int8:{','.join(map(str, shape[2:]))}" for name, shape in content.shapes.items()}
    with MDSWriter(out=folder, columns=columns, size_limit=FILE_BYTES) as writer:
        for sample in content.samples():
            writer.write(sample)
    dataset = StreamingDataset(local=folder, batch_size=1)
    return content.copied(lambda row, view: dataset[2 * row + view])


def litdata(content: Content) -> Read:
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    folder = f"{content.folder}/litdata"
    writer = BinaryWriter(folder, chunk_bytes=FILE_BYTES)
    for number, sample in enumerate(content.samples()):
        writer.add_item(number, sample)
    writer.done()
    writer.merge(1)
    dataset = StreamingDataset(folder)
    return content.copied(lambda row, view: dataset[2 * row + view])


def hdf5(content: Content) -> Read:
    import h5py

    path = content.folder / "features.h5"
    with h5py.File(path, "w") as file:
        for name, maps in content.open().items():
            written = file.create_dataset(name, maps.shape, np.int8, chunks=(1, 1, *maps.shape[2:]))
            for row, sample in enumerate(maps):
                written[row] = sample
    opened = h5py.File(path)

    def fill(row: int, view: int, place: Maps) -> None:
        for name, maps in place.items():
            opened[name].read_direct(maps, np.s_[row, view])

    return content.one_by_one(fill)


def memmap(content: Content) -> Read:
    def read(requests: list[Request]) -> Iterator[Maps]:
        # Opened anew, since pages that are mapped cannot be dropped.
        whole = content.open()
        return ({name: maps[request] for name, maps in whole.items()} for request in requests)

    return read


def pread(content: Content) -> Read:
    whole = content.open()
    files = {name: (os.open(content.path(name), os.O_RDONLY), maps) for name, maps in whole.items()}

    def fill(row: int, view: int, place: Maps) -> None:
        for name, maps in place.items():
            file, layout = files[name]
            os.preadv(file, [maps], layout.offset + row * layout.strides[0] + view * layout.strides[1])

    return content.one_by_one(fill)


def memcpy(content: Content) -> Read:
    """From memory to memory that is there already: what no reader can beat."""
    whole = {name: np.array(maps) for name, maps in content.open().items()}
    batch = content.empty(2 * BATCH)

    def read(requests: list[Request]) -> Iterator[Maps]:
        for request in requests:
            for place, (row, view) in enumerate(zip(*request, strict=True)):
                for name, maps in batch.items():
                    np.copyto(maps[place], whole[name][row, view])
            yield batch

    return read


PEERS = (uldscale, tensorstore, zarr, webdataset, streaming, litdata, hdf5, memmap, pread, memcpy)
