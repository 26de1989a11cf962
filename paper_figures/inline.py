"""Figures as pictures inside the page: the same pixels in fewer bytes.

A figure has few colours, so a palette of 128 with their blends draws it as well as full colour in about a third of the
bytes; the PNG files beside the page stay as they were drawn.
"""

from __future__ import annotations

import base64
import io

from PIL import Image

# Measured on the pocket figures: 64 shows steps in the violet heat maps, 256 costs a fifth more than 128.
_COLOURS = 128


def address(png: bytes) -> str:
    """A PNG file as a data address."""
    return "data:image/png;base64," + base64.b64encode(smaller(png)).decode()


def smaller(png: bytes) -> bytes:
    """The picture with a palette, or as it was where that is no smaller."""
    with Image.open(io.BytesIO(png)) as picture:
        flat = picture.convert("RGB").quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    flat.save(buffer, format="PNG", optimize=True)
    return min(png, buffer.getvalue(), key=len)
