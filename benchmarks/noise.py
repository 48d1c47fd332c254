"""Images that cost nothing to come by, in any number."""

import numpy as np

from fastcifar.dataset.image_set import IMAGE_SHAPE, ImageSet

CHUNK = 10_000
"""Images that are drawn; up to 256 times as many are all different."""


def noise(count: int) -> ImageSet:
    """So many images of uniform noise with labels of ten classes; the same ones every time.

    Only the first part is drawn. The others repeat it with some bits flipped, other ones in each.
    """
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, 256, (min(count, CHUNK), *IMAGE_SHAPE), dtype=np.uint8)
    images = np.empty((count, *IMAGE_SHAPE), dtype=np.uint8)
    for number, start in enumerate(range(0, count, CHUNK)):
        part = images[start : start + CHUNK]
        np.bitwise_xor(drawn[: len(part)], np.uint8(number % 256), out=part)
    return ImageSet(images, generator.integers(0, 10, count))
