"""Photographs that Pillow cannot read by itself: HEIC, which telephones write, when pillow-heif is installed; JPEG XL not at all."""

from functools import cache

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_JPEG_XL = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a")


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that Pillow has learnt from other packages."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return ()
    register_heif_opener()
    return ("HEIF",)


def advice(content: bytes) -> str:
    """What to do with the bytes of a photograph that cannot be read; "" for any other file."""
    if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
        return "a HEIC photograph, which pillow-heif reads: pip install 'uldscale[heif]', or convert it to JPEG"
    return (
        "a JPEG XL image, which cannot be read here: convert it to JPEG or PNG" if content.startswith(_JPEG_XL) else ""
    )
