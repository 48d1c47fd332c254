"""AugmentPolicy: what may happen to a training image, how often and how far."""

import math
from dataclasses import dataclass

from fastcifar.errors import UsageError

IMAGE_SIZE = 32
"""Side of a stored image in pixels; every length in pixels below is measured in this frame."""

BORDERS = ("reflect-101", "constant")
AFFINE_LAWS = ("classic", "albumentations-2")


@dataclass(frozen=True)
class AugmentPolicy:
    """The `[augment]` section of a recipe: flip, affine, coarse dropout and to-gray, applied in this order.

    Each probability is a coin tossed once an image and epoch, independently of the others. The defaults are
    the course's policy (horizontal flip, ShiftScaleRotate, one 16 x 16 CoarseDropout hole, ToGray) with a
    mild rotation and rare gray: CIFAR-10's objects stand upright and their colour tells classes apart.

    Raises:
        UsageError: a value outside its range; the message names `augment.<key>` and the range.
    """

    flip: float = 0.5
    """Probability of a horizontal flip."""

    affine: float = 0.5
    """Probability of shift, scale and rotation (one coin for the three)."""

    rotate_degrees: float = 15.0
    """Largest rotation either way, degrees; albumentations' default is 45."""

    shift: float = 0.0625
    """Largest shift along each axis either way, as a fraction of the width (0.0625 is 2 pixels of 32)."""

    scale: float = 0.1
    """Largest change of scale: the factor lies in 1 - scale .. 1 + scale."""

    affine_law: str = "classic"
    """How albumentations' ShiftScaleRotate draws: "classic" (to 1.4.0) takes one factor for both axes and a shift of
    any length; "albumentations-2" (2.0.x) a factor for each axis and a shift cut towards 0 to whole pixels."""

    border: str = "reflect-101"
    """What lies outside the image: "reflect-101" (mirrored about the edge pixels) or "constant" (black)."""

    dropout: float = 0.5
    """Probability of one square hole, filled with the data set's mean colour."""

    dropout_size: int = 16
    """Side of the hole in pixels of the 32 x 32 image; the hole lies inside the image."""

    gray: float = 0.1
    """Probability of turning the image to gray (three equal channels)."""

    def __post_init__(self) -> None:
        for key in ("flip", "affine", "dropout", "gray"):
            self._require_number(key, 0.0, 1.0, "a probability")
        self._require_number("rotate_degrees", 0.0, 180.0, "degrees")
        self._require_number("shift", 0.0, 1.0, "a fraction of the width")
        self._require_number("scale", 0.0, 0.9, "the largest change of the factor 1")
        self._require_number("dropout_size", 1, IMAGE_SIZE, "whole pixels")
        if not isinstance(self.dropout_size, int):
            raise UsageError(f"augment.dropout_size = {self.dropout_size!r} is not whole", "use 1 to 32")
        self._require_choice("border", BORDERS)
        self._require_choice("affine_law", AFFINE_LAWS)

    def _require_choice(self, key: str, allowed: tuple[str, ...]) -> None:
        value = getattr(self, key)
        if value not in allowed:
            choices = " or ".join(f'"{choice}"' for choice in allowed)
            raise UsageError(f"augment.{key} = {value!r} is not known", f"use {choices}")

    def _require_number(self, key: str, low: float, high: float, unit: str) -> None:
        value = getattr(self, key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:  # the comparison is False for NaN
            raise UsageError(f"augment.{key} = {value!r} is out of range", f"use {low:g} to {high:g}, {unit}")

    @property
    def is_identity(self) -> bool:
        """True where no coin can fall, so that no draws are needed (evaluation)."""
        return not (self.flip or self.affine or self.dropout or self.gray)


IDENTITY = AugmentPolicy(flip=0.0, affine=0.0, dropout=0.0, gray=0.0)
"""The policy of evaluation: images are sampled at the wanted size and normalised, nothing else."""


def dropout_fill(mean: tuple[float, float, float]) -> tuple[int, int, int]:
    """Grey levels 0..255 that fill a hole, from the data set's mean as fractions of 1.

    Cut, not rounded, as albumentations and DALI do with a fractional fill on uint8 images, so that every
    backend writes the same colour: at most one level below the mean, 0 to -1/(255 std) once normalised.
    """
    red, green, blue = (math.floor(255 * channel) for channel in mean)
    return red, green, blue
