"""Mean and deviation of each colour channel, exact to the last bit of the result."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

CHUNK = 2_000
"""Images counted at a time: keeps bincount's int64 copy of the pixels small."""


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and population standard deviation of red, green and blue, as fractions of 1 (pixel / 255)."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def channel_statistics(images: np.ndarray) -> ChannelStatistics:
    """Statistics over all pixels of all images.

    A pixel has one of 256 values, so both moments are whole-number sums over a histogram; the only
    rounding is in the last division and square root.

    Args:
        images: uint8 [N, H, W, 3], N > 0.
    """
    histogram = np.zeros((3, 256), dtype=np.int64)
    for start in range(0, len(images), CHUNK):
        for channel in range(3):
            pixels = images[start : start + CHUNK, ..., channel].ravel()
            histogram[channel] += np.bincount(pixels, minlength=256)
    moments = [_moments([int(count) for count in row]) for row in histogram]
    red, green, blue = moments
    return ChannelStatistics(mean=(red[0], green[0], blue[0]), std=(red[1], green[1], blue[1]))


def _moments(histogram: list[int]) -> tuple[float, float]:
    """Mean and population deviation of pixel / 255 from the counts of its 256 values."""
    count = sum(histogram)
    first = sum(value * times for value, times in enumerate(histogram))
    second = sum(value * value * times for value, times in enumerate(histogram))
    variance = (count * second - first * first) / (count * count)
    return first / (255 * count), sqrt(variance) / 255
