"""Images that cost nothing to come by, in any number."""

import numpy as np

from fastcifar.dataset.image_set import IMAGE_SHAPE, ImageSet

CHUNK = 10_000


def noise(count: int) -> ImageSet:
    """So many images of uniform noise with labels of ten classes; the same ones every time.

    They are drawn part by part, so that little beside the set itself is ever in memory.
    """
    generator = np.random.default_rng(0)
    images = np.empty((count, *IMAGE_SHAPE), dtype=np.uint8)
    for start in range(0, count, CHUNK):
        part = images[start : start + CHUNK]
        part[...] = np.frombuffer(generator.bytes(part.nbytes), dtype=np.uint8).reshape(part.shape)
    return ImageSet(images, generator.integers(0, 10, count))
