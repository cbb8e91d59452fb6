"""The feature store: a Zarr v3 group that is filled shard by shard, each shard by one writer.

    zarr.json                 the spec, as attributes
    codec/<tap>/<name>        arrays of the codec and its measures; codec/zarr.json is written last and makes them valid
    r08 r16 ...               int8 or float16 (N, V, T, L, C, H, W), one array per resolution; N padded to whole shards
    commits/00042.json        rows, view matrices and checksum of a finished shard, written last: the only truth about
                              what is done
    attempts/00042.json       who wrote that shard, and in how many seconds
    views                     float32 (N, V, 3, 3), unit coordinates of view 0 to those of view v: the matrices of all
                              records in one object, since 15,000 records are not for every reader

Law: the number of writers, kills and the order of shards change no byte: `diff -r` of two stores of one spec finds
differences in attempts/ only. A reader gets what was written or an error, never zeros in its place.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from uldscale.errors import IncompleteError, StoreError
from uldscale.runtime.cache import CacheConfig
from uldscale.store import arrays, bundle, places
from uldscale.store.identity import read_spec, require_spec
from uldscale.store.records import Records, attempt_key, commit_key, commit_record, views_of
from uldscale.store.spec import StoreSpec
from uldscale.store.views import GatheredViews

_ANEW = "has a damaged codec; remove its folders codec and commits and run the job again to extract anew"


class FeatureStore:
    """A store on disk, from `open` or `open_or_create`. Any number of processes may hold the same one."""

    def __init__(
        self, root: str, spec: StoreSpec, place: Any, content: dict[str, Any], cache: CacheConfig | None = None
    ) -> None:
        self.root = root
        self.spec = spec
        self.cache = cache
        self._place = place
        self._content = content
        self._records = Records(root, place)
        self._views = GatheredViews(root, place, self._records, spec.num_shards)

    @classmethod
    def open_or_create(cls, root: str, spec: StoreSpec, cache: CacheConfig | None = None) -> Self:
        """The store of a spec, made if it is not there; `cache` as in `open`.

        Raises StoreError when there is one of another spec.
        """
        place = places.open_root(root)
        with places.speaking_of(root, "cannot become a feature store"):
            arrays.add_document(place, "zarr.json", arrays.group({"uldscale": spec.to_json()}))
            arrays.sweep(place, "views/*")
        require_spec(root, place, spec)
        advice = "if the zarr.json of an array is damaged, remove that file and run the job again"
        with places.speaking_of(root, f"cannot become a feature store ({advice})"):
            return cls(root, spec, place, open_content(place, spec, create=True), cache)

    @classmethod
    def open(cls, root: str, cache: CacheConfig | None = None) -> Self:
        """A store that is there; its readers keep in `cache` what they fetch from a bucket. Raises StoreError."""
        place = places.open_root(root)
        spec = read_spec(root, place)
        with places.speaking_of(root, "is not a whole feature store, run the job again"):
            return cls(root, spec, place, open_content(place, spec), cache)

    @property
    def has_codec(self) -> bool:
        """Whether a codec was written."""
        with places.speaking_of(self.root, _ANEW):
            return bundle.known(self._place / "codec/") is not None

    def write_codec(self, codec: Mapping[str, NDArray[Any]]) -> None:
        """Write the arrays of the codec by flat names such as "<tap>/mean".

        Raises StoreError when another is there, or shards of one that is gone.
        """
        place, size = self._place / "codec/", sum(array.nbytes for array in codec.values())
        with places.speaking_of(self.root, "did not take the codec", size):
            known = bundle.known(place)
            if known is None:
                self._require_no_shards()
                bundle.write(place, codec)
            elif known != bundle.record_of(codec):
                raise StoreError(
                    f"{self.root} already has another codec, with which its features are encoded; use another folder"
                )

    def read_codec(self) -> dict[str, NDArray[Any]]:
        """The arrays of the codec; empty when none was written. Raises StoreError when they are damaged, or gone from encoded features."""
        with places.speaking_of(self.root, _ANEW):
            codec = bundle.read(self._place / "codec/")
        if not codec and self.spec.codec.get("kind", "none") != "none":
            self._require_no_shards()
        return codec

    def scales(self) -> dict[str, NDArray[np.float32]]:
        """Value of one step of the stored codes, (L, C) by resolution; ones where there is no codec."""
        ones = {f"{tap.name}/scales": np.ones(tap.channels, np.float32) for tap in self.spec.taps}
        known = {**ones, **self.read_codec()}
        return {
            name: np.stack([known[f"{tap.name}/scales"] for tap in taps])
            for name, taps in self.spec.resolutions.items()
        }

    def rows_of(self, shard: int) -> range:
        """Rows of a shard without its padding. Raises IndexError."""
        return self.spec.rows_of(shard)

    def missing_shards(self) -> list[int]:
        """Shards without a commit record."""
        return self._records.missing(self.spec.num_shards)

    def require_complete(self) -> None:
        """Raises IncompleteError that names the missing shards."""
        missing = self.missing_shards()
        if missing:
            names = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
            count = f"{len(missing)} of {self.spec.num_shards} shards"
            raise IncompleteError(f"{self.root} lacks {count} ({names}); run the same job again to extract them")

    def write_shard(
        self, shard: int, features: Mapping[str, NDArray[Any]], views: NDArray[Any], *, attempt: str, seconds: float
    ) -> None:
        """Write a whole shard, its commit record last. A shard that is committed with this content is left as it is.

        features: (rows, V, T, L, C, H, W) by resolution, in the dtype of the spec; views: (rows, V, 3, 3); rows as in
        `rows_of`; attempt: sorts by time. Raises StoreError when a later attempt committed other content or the disk is
        full, ValueError when names, shapes or dtypes are not those of the spec.
        """
        content = {**features, "views": views.astype(np.float32, copy=False)}
        block, record = self._block(shard, content), self._record(shard, content)
        if self._settled(shard, record, attempt):
            return
        size = sum(array.nbytes for array in block.values())
        with places.speaking_of(self.root, f"did not take shard {shard}", size):
            arrays.sweep(self._place, f"*/c.{shard}.*", commit_key(shard), attempt_key(shard))
            writes = [self._part(array, shard).write(content) for array, content in block.items()]
            # All come to rest before an error leaves: none may land in the middle of the next attempt.
            for failure in [write.exception() for write in writes]:
                if failure is not None:
                    raise failure
            arrays.write_document(self._place, attempt_key(shard), {"attempt": attempt, "seconds": round(seconds, 3)})
        # Someone may have removed the store or made another one in its place; a record there would vouch for strangers.
        require_spec(self.root, self._place, self.spec)
        self._views.drop()
        with places.speaking_of(self.root, f"did not take shard {shard}"):
            alone = arrays.add_document(self._place, commit_key(shard), record)
        if not alone and not self._settled(shard, record, attempt):
            raise StoreError(
                f"{self.root}: two attempts wrote different content to shard {shard}; run the same job again"
            )

    def views(self) -> NDArray[np.float32]:
        """(N, V, 3, 3) unit coordinates of view 0 to those of each view. Raises IncompleteError, StoreError.

        Who asks first, which is the extraction at its end, puts them into one object for all others.
        """
        self.require_complete()
        return self._views.read()

    def verify(self, repair: bool = False) -> list[int]:
        """Read every byte of every committed shard; returns the bad ones.

        `repair` drops their records, so that they are missing and the next run writes them, and makes the object of all
        views anew. Raises StoreError when the codec or, without `repair`, that object is damaged, or when the store
        cannot be read at all.
        """
        self.read_codec()
        missing = set(self.missing_shards())
        bad = [shard for shard in range(self.spec.num_shards) if shard not in missing and not self._is_sound(shard)]
        for shard in bad if repair else []:
            self._records.drop(shard)
        if repair:
            self._views.drop()
        if not missing and not bad:
            self._views.verify()
        return bad

    def info(self) -> dict[str, Any]:
        """What the store holds, as JSON values; bytes and seconds are those of the finished shards. Raises StoreError."""
        missing = self.missing_shards()
        done = sorted(set(range(self.spec.num_shards)) - set(missing))
        seconds = sum(attempt["seconds"] for attempt in self._records.attempts(done))
        with places.speaking_of(self.root, "cannot be listed"):
            usage = arrays.usage(self._place)
        return {
            "root": self.root,
            "shards": self.spec.num_shards,
            "missing_shards": missing,
            "bytes": sum(len(self.rows_of(shard)) for shard in done) * self.spec.row_bytes,
            **usage,
            "seconds": round(seconds, 3),
            "arrays": {name: list(self.spec.shape(name)) for name in self.spec.resolutions},
            "spec": self.spec.to_json(),
        }

    def _block(self, shard: int, content: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """A shard's feature arrays with padding, ready to be written."""
        rows = len(self.rows_of(shard))
        wanted = {name: ((rows, *array.shape[1:]), array.dtype.numpy_dtype) for name, array in self._content.items()}
        wanted["views"] = ((rows, self.spec.num_views, 3, 3), np.dtype(np.float32))
        got = {name: (array.shape, array.dtype) for name, array in content.items()}
        if got != wanted:
            raise ValueError(f"shard {shard}: got {got}, wanted {wanted}")
        padding = self.spec.shard_rows - rows
        return {name: np.pad(content[name], [(0, padding)] + [(0, 0)] * 6) for name in self._content}

    def _record(self, shard: int, content: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
        return commit_record(self.rows_of(shard), content["views"], arrays.checksum(content))

    def _settled(self, shard: int, record: dict[str, Any], attempt: str) -> bool:
        """Whether this content is committed. The record of other content is dropped, unless it is a later attempt's."""
        known = self._records.commit(shard)
        if known is None or known == record:
            return known is not None
        owner = self._records.attempts([shard])[0]["attempt"]
        if owner > attempt:
            raise StoreError(
                f"{self.root}: shard {shard} of attempt {attempt} is not what the later attempt {owner} committed"
            )
        self._records.drop(shard)
        return False

    def _is_sound(self, shard: int) -> bool:
        try:
            reading = {name: self._part(name, shard).read() for name in self._content}
            record = arrays.read_document(self._place, commit_key(shard))
            arrays.read_document(self._place, attempt_key(shard))
            rows = len(self.rows_of(shard))
            found = {name: future.result()[:rows] for name, future in reading.items()}
            return bool(self._record(shard, {**found, "views": views_of(record)}) == record)
        except ValueError as error:
            if places.is_damage(error):
                return False
            with places.speaking_of(self.root, f"cannot be verified, shard {shard} cannot be read"):
                raise

    def _part(self, name: str, shard: int) -> Any:
        return self._content[name][shard * self.spec.shard_rows : (shard + 1) * self.spec.shard_rows]

    def _require_no_shards(self) -> None:
        done = self.spec.num_shards - len(self.missing_shards())
        if done:
            raise StoreError(
                f"{self.root} has {done} shards, but not the codec that they were encoded with; "
                "remove its folder commits and run the job again to extract anew"
            )


def open_content(place: Any, spec: StoreSpec, context: Any = None, *, create: bool = False) -> dict[str, Any]:
    """TensorStore handles of the features by resolution. Raises ValueError."""
    layouts = {name: arrays.sharded(spec.shape(name), spec.dtype, spec.shard_rows) for name in spec.resolutions}
    return {
        name: arrays.open_array(place / f"{name}/", layout, context, open=True, create=create)
        for name, layout in layouts.items()
    }
