"""A PNG or JPEG file of 32x32 pixels -> a uint8 array."""

import io

import numpy as np

from fastcifar.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg")


def decode_picture(content: bytes, name: str) -> np.ndarray:
    """A PNG or JPEG file's bytes as uint8 [32, 32, 3]; grey pictures get three equal channels.

    Args:
        content: the whole file.
        name: what to blame.

    Raises:
        DataError: no such picture, not 32x32, or with transparency or 16 bits a channel.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG")) as image:
            if image.size != (32, 32):
                width, height = image.size
                raise DataError(
                    f"{name}: is {width}x{height} pixels instead of 32x32",
                    "resize the images, e.g. with ImageMagick: mogrify -resize '32x32!' FILES",
                )
            if image.mode not in ("RGB", "L", "P"):
                raise DataError(
                    f"{name}: is a picture of mode {image.mode}", "store it as 8-bit RGB without transparency"
                )
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise DataError(f"{name}: damaged, or no PNG or JPEG picture", "replace or remove it") from None
