"""Decoding: whatever people call an image becomes upright RGB, or a reason why it cannot. Cropping: geometry."""

import contextlib
import errno
import io
import os
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from uldscale.data import images, unread
from uldscale.data.budget import Budget
from uldscale.data.images import MAX_PIXELS, BrokenImage, crop, decode, decode_bytes

RED, WHITE = (255, 0, 0), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(height: int = 24, width: int = 36) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def reason(content: bytes) -> str:
    with pytest.raises(BrokenImage) as caught:
        decode_bytes(content)
    return caught.value.reason


def test_rgb_is_untouched() -> None:
    assert np.array_equal(decode_bytes(encoded(Image.fromarray(noise()))), noise())


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr", "I;16", "I"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "PNG" if mode in ("L", "1", "P", "RGB", "RGBA", "LA", "I;16") else "TIFF"
    image = Image.new(mode, (5, 3)) if mode in ("I", "I;16") else Image.new("RGB", (5, 3), RED).convert(mode)
    pixels = decode_bytes(encoded(image, kind))
    assert pixels.shape == (3, 5, 3)
    assert pixels.dtype == np.uint8


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK"])
def test_colours_keep_their_colour(mode: str) -> None:
    image = Image.new("RGB", (8, 8), RED).convert(mode)
    pixels = decode_bytes(encoded(image, "TIFF"))
    assert np.abs(pixels.astype(int) - RED).max() <= 2


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    levels = np.array([[0, 256, 32768, 65535]], np.uint16)
    assert decode_bytes(encoded(Image.fromarray(levels)))[0, :, 0].tolist() == [0, 1, 128, 255]
    assert decode_bytes(b"P5 4 1 65535\n" + levels.astype(">u2").tobytes())[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(("bits", "expected"), [(8, [0, 127, 255]), (12, [0, 127, 255]), (16, [0, 127, 255])])
@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_a_camera_of_fewer_bits_than_its_files_is_not_black(mode: str, bits: int, expected: list[int]) -> None:
    levels = np.array([[0, 2 ** (bits - 1) - 1, 2**bits - 1]], np.int32)
    image = Image.fromarray(levels if mode == "I" else levels.astype(np.uint16))
    assert decode_bytes(encoded(image, "TIFF"))[0, :, 0].tolist() == expected


def test_transparency_is_white() -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (decode_bytes(encoded(clear)) == WHITE).all()
    assert (decode_bytes(encoded(Image.new("LA", (4, 4), (0, 0)))) == WHITE).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert (decode_bytes(encoded(palette, "PNG", transparency=1)) == WHITE).all()
    assert (decode_bytes(encoded(Image.new("RGB", (4, 4), RED), "PNG", transparency=RED)) == WHITE).all()
    assert (decode_bytes(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 255)))) == RED).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turned[orientation](noise())))
    assert np.array_equal(decode_bytes(encoded(stored, exif=exif)), noise())


def test_animations_give_their_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, WHITE)]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (decode_bytes(content) == RED).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "WEBP"])
def test_truncated_files_have_a_reason(kind: str) -> None:
    content = encoded(Image.fromarray(noise(64, 64)), kind)
    assert reason(content[: len(content) * 2 // 3])
    if kind in ("JPEG", "PNG"):
        assert reason(content[: len(content) * 2 // 3]).startswith("truncated")


@pytest.mark.parametrize(
    "content",
    [
        b"secret",
        b"P6 secret secret secret\n",
        b"P5 4 4 255\nsecret",
        b"P2 2 1 255\nsecret secret",
        b"BMsecret" * 9,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nsecret\n%%EOF\n",
        b"\x89PNG\r\n\x1a\n\0\0\0\rsecret" + bytes(20),
    ],
)
def test_a_reason_has_nothing_of_what_is_in_a_file(content: bytes) -> None:
    assert "secret" not in reason(content)


def test_text_is_not_an_image() -> None:
    assert reason(b"<!DOCTYPE html><html>404").startswith("not an image that can be read here; wanted JPEG, PNG")


def test_nothing_but_the_formats_of_images_is_opened() -> None:
    # Pillow would have Ghostscript run this.
    assert reason(encoded(Image.fromarray(noise()), "EPS")).startswith("not an image that can be read here")


def test_floats_have_no_known_range() -> None:
    assert "mode F" in reason(encoded(Image.new("F", (4, 4)), "TIFF"))


@pytest.mark.parametrize(("width", "height"), [(10_001, 10_000), (20_000, 20_000)])
def test_bombs_are_refused_before_they_unfold(width: int, height: int) -> None:
    content = encoded(Image.new("1", (width, height)))
    said = reason(content)
    assert f"{MAX_PIXELS // 10**6} Mpx" in said
    assert f"{width} x {height}" in said or str(width * height) in said


def test_all_images_unfolded_at_a_time_share_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_unfolding", Budget(3 * noise()[..., 0].size))
    content, lock, now, most = encoded(Image.fromarray(noise())), threading.Lock(), [0], [0]

    def work(_: int) -> None:
        with images.unfolded(content):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            time.sleep(0.005)
            with lock:
                now[0] -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, range(48)))
    assert (now[0], most[0]) == (0, 3)


def test_of_heavy_files_a_process_has_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(noise())))
    monkeypatch.setattr(images, "LIGHT_BYTES", 100)
    alone = threading.Lock()

    def work(_: int) -> bool:
        with images.fetched(str(path)) as content:
            first = alone.acquire(blocking=False)
            time.sleep(0.005)
            if first:
                alone.release()
            return first and content == path.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(24)))


def test_a_file_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "LIGHT_BYTES", 50)
    monkeypatch.setattr(images, "MAX_BYTES", 2_000_000)
    (tmp_path / "a.png").write_bytes(bytes(2_000_001))
    os.mkfifo(tmp_path / "b.png")
    for place, said in ((tmp_path / "a.png", "more than 2 MB"), (tmp_path / "b.png", "no regular file")):
        with pytest.raises(BrokenImage, match=said):
            decode(str(place))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name, said in (("empty.jpg", "is empty"), ("none.jpg", "is not there"), (".", "cannot be read")):
        with pytest.raises(BrokenImage, match=said):
            decode(str(tmp_path / name))
    with pytest.raises(BrokenImage, match="cannot be read"):
        decode("nosuchprotocol://bucket/a.jpg")


@pytest.mark.parametrize(("code", "asked", "said"), [(errno.ESTALE, 3, "Stale"), (errno.EACCES, 1, "denied")])
def test_what_is_momentarily_not_to_be_had_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, asked: int, said: str
) -> None:
    """A network file system that fails; it is there again at the third question."""
    content = encoded(Image.fromarray(noise()))
    tries: list[str] = []

    def read(path: str, most: int) -> bytes:
        tries.append(path)
        if len(tries) < 3:
            raise OSError(code, os.strerror(code))
        return content

    monkeypatch.setattr(images, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(images.files, "read_bytes", read)
    if asked == 3:
        assert np.array_equal(decode("a.png"), noise())
    else:
        with pytest.raises(BrokenImage, match=said):
            decode("a.png")
    assert len(tries) == asked


def test_any_uri(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(noise()))
    (tmp_path / "a.png").write_bytes(content)
    fsspec.filesystem("memory").pipe("/images/a.png", content)
    for uri in (str(tmp_path / "a.png"), f"file://{tmp_path}/a.png", "memory://images/a.png"):
        assert np.array_equal(decode(uri), noise())


def test_generated_faces_are_images() -> None:
    face = decode("faces3d:32/90/7")
    assert face.shape == (32, 32, 3)
    assert np.array_equal(face, decode("faces3d:32/90/7"))
    assert not np.array_equal(face, decode("faces3d:32/90/8"))


SAMPLES = [
    encoded(Image.fromarray(noise()), kind, **options)
    for kind, options in [("JPEG", {}), ("PNG", {}), ("GIF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {})]
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=12), st.data()
)
def test_no_damage_raises_anything_else(sample: bytes, edits: list[tuple[int, int]], data: st.DataObject) -> None:
    content = bytearray(sample[: data.draw(st.integers(1, len(sample)))])
    for place, value in edits:
        content[place % len(content)] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(BrokenImage):
            pixels = decode_bytes(bytes(content))
            assert pixels.ndim == 3
            assert pixels.dtype == np.uint8


def test_warnings_of_threads_do_not_leak() -> None:
    corrupt_exif = encoded(Image.fromarray(noise()), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(decode_bytes, [corrupt_exif] * 200))
        assert warnings.filters == before
    assert caught == []


def test_a_large_image_within_the_limit_passes_even_where_warnings_are_errors(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(encoded(Image.new("1", (9_500, 9_500))))
    code = "import sys; from uldscale.data.images import decode; print(decode(sys.argv[1]).shape)"
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code, str(tmp_path / "large.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("(9500, 9500, 3)", "")


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """Red grows with x, green with y, 2 a pixel: the value at unit coordinates is known."""
    y, x = np.mgrid[:height, :width]
    return np.stack([2 * x, 2 * y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_the_whole_image_at_its_own_size_is_itself() -> None:
    assert np.array_equal(crop(noise(32, 32), (0, 0, 32, 32), 32), noise(32, 32))


def test_an_inner_box_is_a_slice() -> None:
    assert np.array_equal(crop(noise(40, 40), (5, 7, 21, 23), 16), noise(40, 40)[7:23, 5:21])


def test_outside_is_a_mirror() -> None:
    image = noise(16, 16)
    wide = crop(image, (-16, -16, 32, 32), 48)
    assert np.array_equal(wide[16:32, 16:32], image)
    assert np.array_equal(wide[16:32, :16], image[:, ::-1])
    assert np.array_equal(wide[32:, 16:32], image[::-1])


@settings(max_examples=60, deadline=None)
@given(st.floats(2, 20), st.floats(2, 20), st.floats(24, 60), st.integers(16, 64))
def test_unit_coordinates_point_at_the_same_place(x0: float, y0: float, side: float, size: int) -> None:
    view = crop(ramp(100, 100), (x0, y0, x0 + side, y0 + side), size).astype(float)
    unit = (np.arange(size) + 0.5) / size
    # Value 2 (p - 0.5) at pixel coordinate p: the centre of pixel i, at i + 0.5, holds 2 i.
    assert np.abs(view[..., 0] - (2 * (x0 + unit * side) - 1)).max() < 1.5
    assert np.abs(view[..., 1] - (2 * (y0 + unit * side) - 1)[:, None]).max() < 1.5


def test_fine_stripes_become_grey() -> None:
    stripes = np.zeros((1000, 1000, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(crop(stripes, (0, 0, 1000, 1000), 40).astype(int) - 127).max() <= 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", r"HEIC photograph, .* pip install 'uldscale\[heif\]', or convert it"),
        (b"\xff\x0a rest", "JPEG XL image, .* convert it to JPEG or PNG"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL image"),
        (b"\0\0\0\x18ftypmp42", "not an image that can be read here"),
    ],
)
def test_photographs_that_cannot_be_read_say_what_to_do(
    content: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "formats", lambda: ())
    with pytest.raises(BrokenImage, match=said):
        decode_bytes(content)


def test_heic_is_read_with_its_package() -> None:
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: pip install 'uldscale[heif]'")
    smooth = np.broadcast_to(np.arange(0, 240, 5, np.uint8)[:, None, None], (48, 64, 3))
    buffer = io.BytesIO()
    heif.from_pillow(Image.fromarray(np.ascontiguousarray(smooth))).save(buffer, quality=95)
    found = decode_bytes(buffer.getvalue())
    assert found.shape == smooth.shape
    assert np.abs(found.astype(int) - smooth).mean() < 3
    with pytest.raises(BrokenImage):
        decode_bytes(buffer.getvalue()[:200])
