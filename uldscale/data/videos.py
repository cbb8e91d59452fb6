"""Frames of a video file, by PyAV (the extra `video`).

Law: nothing but the file itself is opened; playlists, which name other files, are no videos here.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from uldscale.data.images import MAX_PIXELS, BrokenImage, Pixels
from uldscale.errors import DataError

SUFFIXES = frozenset([".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts"])
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo"
"""FFmpeg's names of them."""


def count(path: str) -> int:
    """Frames as the file states or its length says; 0 where it says neither, or is broken."""
    av = _library()
    try:
        with _opened(av, path) as container:
            stream = container.streams.video[0]
            rate, length = stream.average_rate or 0, container.duration or 0
            return int(stream.frames or round(rate * length / av.time_base))
    except (BrokenImage, av.error.FFmpegError, OSError):
        return 0


def frames(path: str) -> Iterator[Pixels]:
    """(H, W, 3) RGB of each frame, upright. Raises BrokenImage at the first that cannot be decoded, DataError without PyAV."""
    av = _library()
    try:
        with _opened(av, path) as container:
            for frame in container.decode(video=0):
                turned = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
                yield np.ascontiguousarray(turned)
    except (av.error.FFmpegError, OSError) as error:
        raise BrokenImage(f"the video cannot be read to its end: {error.strerror or type(error).__name__}") from None


def _opened(av: Any, path: str) -> Any:
    container = av.open(path, container_options={"protocol_whitelist": "file", "format_whitelist": _CONTAINERS})
    if not container.streams.video:
        raise BrokenImage("the file has no video in it")
    stream = container.streams.video[0]
    if stream.width * stream.height > MAX_PIXELS:
        raise BrokenImage(f"frames of {stream.width} x {stream.height} px are more than {MAX_PIXELS // 10**6} Mpx")
    stream.thread_type = "AUTO"
    return container


def _library() -> Any:
    try:
        import av
    except ImportError:
        raise DataError("videos need PyAV, which is not installed: pip install 'uldscale[video]'") from None
    return av
