"""Pixels: any image a person may bring becomes an upright 8-bit RGB array, or a reason why it cannot.

Laws: decoding is a function of the bytes alone; no file, however broken, raises anything but BrokenImage; a reason has nothing
of what is in a file, which may be no image but a secret; the memory of a process has a limit, whatever its threads open.
"""

import errno
import hashlib
import io
import math
import re
import threading
import time
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from uldscale import files
from uldscale.data import orientation, unread
from uldscale.data.budget import Budget
from uldscale.data.orientation import Turn
from uldscale.data.sources import Box

if TYPE_CHECKING:
    from uldscale.data.faces3d import Face

Pixels = NDArray[np.uint8]
GENERATED = "faces3d:"
"""What the URI of a generated image begins with."""
MAX_PIXELS = 100_000_000  # 300 MB of RGB; larger ones are scans, panoramas or attacks
MAX_BYTES = 4 * MAX_PIXELS  # of a file; so many have as many pixels, not compressed at all
LIGHT_BYTES = 16_000_000  # of a file; from there on one at a time
PAUSES = (1.0, 4.0)
"""Seconds before an image that was momentarily not to be had is asked for again."""
MOMENTARY = {errno.EAGAIN, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT}
"""Errors of servers with too much to do and of network file systems."""
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "JPEG2000", "PPM", "AVIF")
"""Those of sources.SUFFIXES that Pillow reads by itself. It knows more, among them one that starts another program."""


class BrokenImage(Exception):
    """An image that cannot be used; `reason` is half a sentence for a person."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode(uri: str) -> Pixels:
    """(H, W, 3) RGB pixels of a local path, any fsspec URI, or faces3d:SIZE/MAXYAW/SEED, as a person gave it. Raises BrokenImage."""
    if uri.startswith(GENERATED):
        return render(uri).image
    with fetched(uri, [uri]) as content:
        return decode_bytes(content)


def render(uri: str) -> "Face":
    """The generated face of faces3d:SIZE/MAXYAW/SEED: image, landmarks in px, visible and yaw in degrees."""
    from uldscale.data import faces3d  # most runs need no generator

    size, max_yaw, seed = uri.removeprefix(GENERATED).split("/")
    return faces3d.render(int(seed), size=int(size), max_yaw=float(max_yaw))


@contextmanager
def fetched(uri: str, servers: Collection[str] = ()) -> Iterator[bytes]:
    """Content of an image file, for a block; of those over LIGHT_BYTES a process has one at a time.

    `servers` are URIs of web servers that may have inside addresses. Raises BrokenImage when the file is missing, empty, too
    large or cannot be read.
    """
    content = _fetch(uri, servers, LIGHT_BYTES + 1)
    if len(content) <= LIGHT_BYTES:
        yield content
        return
    with _heavy:
        content = _fetch(uri, servers, MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise BrokenImage(f"the file has more than {MAX_BYTES // 10**6} MB")
        yield content


def _fetch(uri: str, servers: Collection[str], most: int) -> bytes:
    try:
        content = _patiently(uri, servers, most)
    except FileNotFoundError:
        raise BrokenImage("the file is not there") from None
    except (OSError, ImportError, ValueError) as error:
        said = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise BrokenImage(f"the file cannot be read: {said}") from None
    if not content:
        raise BrokenImage("the file is empty")
    return content


def _patiently(uri: str, servers: Collection[str], most: int) -> bytes:
    """What is momentarily not to be had is asked for again: an image that is quarantined stays so for the whole run."""
    for pause in PAUSES:
        try:
            return _read(uri, servers, most)
        except OSError as error:
            if error.errno not in MOMENTARY:
                raise
            time.sleep(pause)
    return _read(uri, servers, most)


def _read(uri: str, servers: Collection[str], most: int) -> bytes:
    if uri.startswith(("http://", "https://")):
        from uldscale.data import web  # most runs need no web

        return web.read(uri, servers, most)
    return files.read_bytes(uri, most)


def decode_bytes(content: bytes) -> Pixels:
    """(H, W, 3) RGB pixels of an encoded image: first frame, upright by EXIF. Raises BrokenImage."""
    with unfolded(content) as (pixels, _):
        return pixels


@contextmanager
def unfolded(content: bytes) -> Iterator[tuple[Pixels, Turn]]:
    """`decode_bytes` for a block, and how it was turned: all images that a process has unfolded at a time share MAX_PIXELS."""
    with _reasons(content):
        image = _open(content)
    with _unfolding.share(image.width * image.height):
        yield _upright(image)


def from_pillow(image: Image.Image) -> Pixels:
    """(H, W, 3) RGB pixels of an image that Pillow has, upright by EXIF; what is transparent becomes white. Raises BrokenImage."""
    return _upright(image)[0]


def _upright(image: Image.Image) -> tuple[Pixels, Turn]:
    with _reasons():
        image.load()
        turn = orientation.turn_of(image)
        pixels = _rgb(image)
    return np.ascontiguousarray(turn.pixels(pixels)), turn


@contextmanager
def _reasons(content: bytes = b"") -> Iterator[None]:
    """Pillow at work: without its warnings, and with a reason instead of its errors, some of which quote the file."""
    try:
        with _QUIET:
            yield
    except BrokenImage:
        raise
    except UnidentifiedImageError:
        advice = unread.advice(content)
        raise BrokenImage(advice or f"not an image that can be read here; wanted {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise BrokenImage(f"more than {MAX_PIXELS // 10**6} Mpx: {str(error).split(',')[0]}") from None
    except Exception as error:  # Pillow's readers fail in some twenty types when bytes are wrong
        raise BrokenImage(_explain(error)) from error


def crop(image: Pixels, box: Box, size: int) -> Pixels:
    """The box (x0, y0, x1, y1) px of an image (H, W, 3) as (size, size, 3), antialiased; aspect is not kept.

    The box may leave the image: what lies outside is the image reflected at its edge.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    left, top = max(0, math.ceil(-x0)), max(0, math.ceil(-y0))
    right, bottom = max(0, math.ceil(x1 - width)), max(0, math.ceil(y1 - height))
    if left or top or right or bottom:
        image = np.pad(image, ((top, bottom), (left, right), (0, 0)), mode="symmetric")
    inner = (x0 + left, y0 + top, x1 + left, y1 + top)
    picture = Image.fromarray(image)
    return np.array(picture.resize((size, size), Image.Resampling.BICUBIC, box=inner, reducing_gap=3.0))


def sha256(content: bytes | Pixels) -> str:
    """Hex digest of a file's bytes, or of pixels in row order."""
    return hashlib.sha256(content if isinstance(content, bytes) else np.ascontiguousarray(content).data).hexdigest()


def _open(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=(*FORMATS, *unread.formats()))
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"{width} x {height} px is more than {MAX_PIXELS // 10**6} Mpx")
    return image


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):
        # Grey of more than 8 bits; Pillow's own conversion would clip at 255 and give a white image.
        levels = np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
        return np.repeat((levels >> _spare_bits(int(levels.max(initial=0))))[..., None], 3, axis=2).astype(np.uint8)
    if image.mode in ("F", "LAB"):
        raise BrokenImage(f"pixels of mode {image.mode}; wanted 8- or 16-bit grey, RGB, palette or CMYK")
    if image.has_transparency_data:
        # The colour below full transparency is arbitrary. White is what viewers and web pages show cut-outs on.
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB"))


def _spare_bits(largest: int) -> int:
    """Bits beyond 8 of an image whose largest level is known: cameras of 12 bits write files of 16, which would be all but black."""
    return next(bits - 8 for bits in (8, 12, 16) if largest < 1 << bits)


def _explain(error: Exception) -> str:
    cut = re.search("truncated|premature|unexpected end|not enough data|eof", str(error), re.IGNORECASE)
    ended = cut or isinstance(error, EOFError)
    return "truncated: its data end too early" if ended else f"cannot be decoded ({type(error).__name__})"


class _Quiet:
    """Silences Pillow's warnings while at least one thread decodes.

    warnings.catch_warnings swaps a list of the whole process: threads that overlap would restore it in the wrong order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.filterwarnings("ignore", module="PIL")
            self._inside += 1

    def __exit__(self, *problem: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


_QUIET = _Quiet()
_heavy = threading.Lock()
_unfolding = Budget(MAX_PIXELS)
