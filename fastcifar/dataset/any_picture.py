"""A picture of any size and of any format that pillow reads -> a uint8 array, of 32x32 pixels or to look at."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fastcifar.errors import DataError

SIDE = 32


def read_any_picture(path: Path) -> np.ndarray:
    """Read a picture as uint8 [32, 32, 3], the way up that its EXIF says and transparent parts on white.

    The shorter side is brought to 32 pixels, with antialiasing, and the middle of the longer one is kept: what
    torchvision's Resize(32) and CenterCrop(32) make of it. Of several frames the first counts, of 16 bits the upper
    eight.

    Raises:
        DataError: no such file, no picture, a damaged one, or one whose pixel values have no fixed white.
    """
    return _read(path, _central_square)


def read_thumbnail(path: Path, longest: int) -> np.ndarray:
    """Read the whole of a picture as uint8 [H, W, 3], scaled down where a side has more than `longest` pixels.

    Raises:
        DataError: as `read_any_picture`.
    """

    def scaled_down(image: Image.Image) -> Image.Image:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
        return image

    return _read(path, scaled_down)


def images_in(folder: Path) -> list[Path]:
    """The visible files of a folder with an ending that pillow reads, by name; none of its subfolders'.

    Raises:
        DataError: there is none, or the folder cannot be read.
    """
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    try:
        names = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name[0] != ".")
    except OSError as error:
        raise DataError(f"{folder}: cannot be read, {error.strerror}", "check its permissions") from None
    found = [folder / name for name in names if Path(name).suffix.lower() in endings]
    if not found:
        raise DataError(f"{folder}: holds no images", "name a folder with pictures in it, not in its subfolders")
    return found


def _read(path: Path, sized: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")  # of large pictures, and of odd but legible metadata
            with Image.open(file) as image:
                return np.asarray(sized(_as_rgb(ImageOps.exif_transpose(image))))
    except FileNotFoundError:
        raise DataError(f"{path}: no such image", "check the path") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{path}: no image that pillow can read", "convert it to PNG or JPEG") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: has more pixels than pillow deems safe", "store a smaller copy") from None
    except Exception as error:
        # Pillow's decoders raise many kinds for a damaged file, none of them its own.
        reason = str(getattr(error, "strerror", None) or error or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: cannot be read as an image, {reason}", "save it anew with 8 bits a channel") from None


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F" or (image.mode == "I" and np.asarray(image).max() > 65535):
        raise ValueError(f"pixels of mode {image.mode} have no fixed white")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _central_square(image: Image.Image) -> Image.Image:
    """Only the pixels that are kept are computed, so that a long strip takes no more memory than a square."""
    shorter = min(image.size)
    box = [0.0, 0.0, 0.0, 0.0]
    for axis, length in enumerate(image.size):
        resized = SIDE * length // shorter
        start = round((resized - SIDE) / 2)
        box[axis], box[axis + 2] = start * length / resized, (start + SIDE) * length / resized
    left, upper, right, lower = box
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=(left, upper, right, lower))
