"""Where a store is: a local folder or a bucket, how it is reached, and what its errors mean.

TensorStore's default file locking takes over the `.__lock` file of a killed writer without cutting it, so that the tail
of the old content ends up behind the new one (measured with 0.1.86). So locking is off: every write has a draft of its
own, which is synced and renamed.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorstore as ts

from uldscale.errors import StoreError

_DAMAGE = ("DATA_LOSS", "NOT_FOUND", "FAILED_PRECONDITION")
_FULL = ("os_error_code='28'", "os_error_code='122'")
"""TensorStore's words for ENOSPC and EDQUOT."""
_REMOTE = ("curl_code=", "http_response_code=")
"""What TensorStore adds to the errors of a connection and of the server behind it."""

_CONNECTION = "check the bucket, the credentials, the network and AWS_ENDPOINT_URL, then run the command again"

_RETRIES = {"max_retries": 5, "initial_delay": "1s", "max_delay": "8s"}
"""Measured: 25 s until a server that is gone is an error, 85 s for one that is silent. TensorStore's own 32 retries take
a quarter of an hour."""

# Without these TensorStore waits without end for a server that takes requests and says nothing.
for _limit, _value in {"CONNECT_TIMEOUT_SECONDS": 10, "LOW_SPEED_TIME_SECONDS": 10, "LOW_SPEED_LIMIT_BYTES": 1}.items():
    os.environ.setdefault(f"TENSORSTORE_CURL_{_limit}", str(_value))


def resources(settings: dict[str, Any] | None = None) -> Any:
    """TensorStore's context: caches, threads, locks and retries, for `open_root` and `open_array`."""
    retries = {"s3_request_retries": _RETRIES, "gcs_request_retries": _RETRIES}
    return ts.Context({"file_io_locking": {"mode": "none"}, **retries, **(settings or {})})


def open_root(root: str, context: Any = None) -> Any:
    """Key-value store at a local folder or a URL. Raises StoreError."""
    with speaking_of(root, "cannot be opened"):
        return ts.KvStore.open(_location(root), context=context or resources()).result()


def require_bucket(place: Any) -> None:
    """Raises ValueError when the bucket of a place does not exist: reading from it just finds nothing."""
    if local_folder(place) is None:
        place.list(ts.KvStore.KeyRange("zarr.json", "zarr.json0")).result()


def local_folder(place: Any) -> str | None:
    """Local folder of a place, with a slash at its end; None in a bucket."""
    location = place.spec().to_json()
    return str(location["path"]) if location["driver"] == "file" else None


def is_damage(error: ValueError) -> bool:
    """Whether an error tells of missing or damaged content, and not of a disk or network out of order."""
    outside = any(word in str(error) for word in ("os_error_code", *_REMOTE))
    broken = str(error).startswith(_DAMAGE) and not outside
    return broken or isinstance(error, json.JSONDecodeError | UnicodeDecodeError)


@contextmanager
def speaking_of(root: str, trouble: str, needed: int = 0) -> Iterator[None]:
    """Turns TensorStore's errors into StoreError "<root> <trouble>: <reason>"; a full disk names the `needed` bytes.

    What a server or the way to it is to blame for is told as that, whatever the `trouble`.
    """
    try:
        yield
    except ValueError as error:
        words = str(error)
        reason = words.partition(" [")[0]
        if any(code in words for code in _FULL):
            reason = _no_space(root, needed)
        elif any(code in words for code in _REMOTE):
            trouble, reason = "was refused or not reached", f"{reason}; {_CONNECTION}"
        raise StoreError(f"{root} {trouble}: {reason}") from error


def _location(root: str) -> str | dict[str, Any]:
    """Where a root is, in TensorStore's words."""
    scheme, separator, rest = root.rstrip("/").partition("://")
    if not separator:
        return {"driver": "file", "path": os.path.abspath(os.path.expanduser(root)) + "/"}
    if scheme != "s3":
        return f"{scheme}://{rest}/"
    bucket, _, path = rest.partition("/")
    return {"driver": "s3", "bucket": bucket, "path": path and f"{path}/", **_s3_server()}


def _s3_server() -> dict[str, Any]:
    """What the standard variables say of credentials and of a server of one's own, such as MinIO or Ceph."""
    known: dict[str, Any] = {}
    # The default chain looks at the same variables first, but complains of every file and server that it finds none at.
    if "AWS_ACCESS_KEY_ID" in os.environ:
        known["aws_credentials"] = {"type": "environment"}
    endpoint = _first_set("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    region = _first_set("AWS_REGION", "AWS_DEFAULT_REGION")
    # At AWS itself a bucket tells its region, which need not be that of the machine.
    if endpoint:
        known |= {"endpoint": endpoint.rstrip("/"), **({"aws_region": region} if region else {})}
    return known


def _first_set(*variables: str) -> str | None:
    return next((os.environ[variable] for variable in variables if os.environ.get(variable)), None)


def _no_space(root: str, needed: int) -> str:
    folder = os.path.abspath(os.path.expanduser(root.removeprefix("file://")))
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    return f"the disk is full, {needed} bytes are needed and {free} are free; make room and run the command again"
