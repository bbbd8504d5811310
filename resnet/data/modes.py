"""Pillow's modes as 8-bit gray or RGB: palettes, 16 and 32 bits, print and laboratory colours, transparency."""

from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from resnet.data.values import in_8_bits


def in_bands(image: Image.Image) -> Image.Image:
    """Returns a picture whose 8-bit bands can be averaged, such as L, RGB, RGBA or CMYK. Raises DataError for values of no known range."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        has_16_bits = image.mode != "F" and (image.mode != "I" or image.format == "PPM")  # however dark it is
        return Image.fromarray(in_8_bits(np.asarray(image), (0, 65_535) if has_16_bits else None))
    if image.mode == "LAB":
        from PIL import ImageCms

        return ImageCms.applyTransform(image, _lab_to_rgb()) or image
    if "transparency" in image.info or image.mode == "PA":
        return image.convert("RGBA")
    return image.convert({"1": "L", "P": "RGB"}[image.mode]) if image.mode in ("1", "P") else image


def opaque(image: Image.Image) -> Image.Image:
    """Puts it on white, and makes it L or RGB."""
    if {"A", "a"} & set(image.getbands()):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


@cache
def _lab_to_rgb() -> Any:
    from PIL import ImageCms

    return ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
