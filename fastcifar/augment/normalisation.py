"""The constants of normalising, rounded as albumentations rounds them, so that every backend's result is the same."""

import numpy as np

Colour = tuple[float, float, float]
"""Red, green, blue as fractions of 1."""


def normalisation_constants(mean: Colour, std: Colour) -> tuple[Colour, Colour]:
    """Mean and standard deviation in grey levels: (255 mean, 255 std), exact in float32.

    Both are rounded to float32 before the product and once more after it, as albumentations 2.0.8's Normalize
    does. Normalised is (level - 255 mean) * (1 / (255 std)), the quotient again rounded to float32.
    """
    means, deviations = (np.asarray(colour, dtype=np.float32) * np.float32(255) for colour in (mean, std))
    return tuple(means.tolist()), tuple(deviations.tolist())
