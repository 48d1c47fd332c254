"""shapes10: ten classes of 32x32 pictures made on the spot, to try everything without data files.

It is NOT CIFAR-10 and says nothing about CIFAR-10 accuracy. Each picture shows one shape of random
place, size, direction, stretch and colour, lighter or darker than a textured background, with a bar
across it, crumbs around it and noise on top. No class turns into another by flipping or rotating.

Same bytes on every machine: raw PCG64 bits are the only source of chance and all arithmetic is on
integers, but for a square root (which IEEE 754 rounds correctly everywhere) and a table of 64 sines
(rounded to integers, none within 0.01 of a rounding boundary). Lengths are in 1/64 pixel.
"""

import math
from collections.abc import Callable

import numpy as np

from fastcifar.dataset.image_set import Dataset, ImageSet

TRAIN_IMAGES, TEST_IMAGES = 10_000, 2_000
TRAIN_SEED, TEST_SEED = 10, 11
CHUNK = 100
"""Images drawn at a time: all of a chunk's layers stay in the processor's cache."""

PIXEL = 64
"""Units of length in a pixel."""
WORDS_A_PICTURE = 190
"""Random 64-bit words that a scene takes: 150 for the blotches, the others one a die."""
DIRECTIONS = 64
TRIG_ONE = 4096
_ANGLES = [2 * math.pi * step / DIRECTIONS for step in range(DIRECTIONS)]
COS = np.array([round(TRIG_ONE * math.cos(angle)) for angle in _ANGLES], dtype=np.int32)
SIN = np.array([round(TRIG_ONE * math.sin(angle)) for angle in _ANGLES], dtype=np.int32)

_CENTRES = np.arange(32, dtype=np.int32) * PIXEL + PIXEL // 2 - 16 * PIXEL
GRID_Y, GRID_X = (axis.reshape(1, -1) for axis in np.meshgrid(_CENTRES, _CENTRES, indexing="ij"))
"""Pixel centres, [1, 1024], with the origin in the middle of the picture."""


# A shape is a function of the place (u, v) relative to its middle and of its size r: the signed distance
# to its outline, positive inside. Inside A and B is the minimum of two such functions, A or B the maximum.


def _length(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sqrt((u * u + v * v).astype(np.float64)).astype(np.int32)


def _box(u, v, half_width, half_height):
    return np.minimum(half_width - np.abs(u), half_height - np.abs(v))


def _beyond(u, v, distance, step):
    """Signed distance to a line `distance` away from the middle, whose normal is direction `step` of 60."""
    angle = 2 * math.pi * step / 60
    normal_u, normal_v = round(1024 * math.cos(angle)), round(1024 * math.sin(angle))
    return distance - ((u * normal_u + v * normal_v) >> 10)


def disc(u, v, r):
    return r - _length(u, v)


def ring(u, v, r):
    distance = _length(u, v)
    return np.minimum(r - distance, distance - (r * 9 >> 4))


def crescent(u, v, r):
    return np.minimum(r - _length(u, v), _length(u - (r * 9 >> 4), v) - (r * 13 >> 4))


def square(u, v, r):
    half = r * 14 >> 4
    return _box(u, v, half, half)


def frame(u, v, r):
    half = r * 14 >> 4
    return np.minimum(square(u, v, r), -_box(u, v, half >> 1, half >> 1))


def triangle(u, v, r):
    sides = [_beyond(u, v, r * 9 >> 4, step) for step in (15, 35, 55)]
    return np.minimum(np.minimum(sides[0], sides[1]), sides[2])


def cross(u, v, r):
    arm = r * 5 >> 4
    return np.maximum(_box(u, v, arm, r), _box(u, v, r, arm))


def star(u, v, r):
    """Five points. Outside at most one of the five lines: so the second smallest distance counts."""
    smallest = second = _beyond(u, v, r * 6 >> 4, 3)
    for index, step in enumerate((15, 27, 39, 51)):
        side = _beyond(u, v, r * 6 >> 4, step)
        higher = np.maximum(smallest, side)
        second = higher if index == 0 else np.minimum(second, higher)
        smallest = np.minimum(smallest, side)
    return second


def stripes(u, v, r):
    """Three parallel bars."""
    bar, spacing = r * 3 >> 4, r * 11 >> 4
    across = np.abs(u)
    return np.minimum(np.maximum(bar - across, bar - np.abs(across - spacing)), r * 14 - 16 * np.abs(v) >> 4)


def checker(u, v, r):
    """Every other field of a board of four by four."""
    half = r * 15 >> 4
    field = half >> 1
    columns, rows = (np.sign(axis) * ((field >> 1) - np.abs(np.abs(axis) - (field >> 1))) for axis in (u, v))
    both = np.maximum(np.minimum(columns, rows), np.minimum(-columns, -rows))
    return np.minimum(_box(u, v, half, half), both)


SHAPES: tuple[Callable[..., np.ndarray], ...] = (
    disc, ring, crescent, square, frame, triangle, cross, star, stripes, checker,
)  # fmt: skip
CLASSES = tuple(shape.__name__ for shape in SHAPES)


class _Dice:
    """Uniform integers from 64-bit random words, one row of words for each picture."""

    def __init__(self, words: np.ndarray) -> None:
        self.words = words  # uint64 [N, K]
        self.used = 0

    def roll(self, low: int, high: int, *shape: int) -> np.ndarray:
        """Integers from low to high inclusive, int32 [N, *shape]."""
        count = math.prod(shape)
        words = self.words[:, self.used : self.used + count]
        assert words.shape[1] == count, "WORDS_A_PICTURE is too small"
        self.used += count
        scaled = (words >> np.uint64(32)) * np.uint64(high - low + 1) >> np.uint64(32)
        return (scaled.astype(np.int32) + np.int32(low)).reshape(-1, *shape)


def make_shapes10(train_images: int = TRAIN_IMAGES, test_images: int = TEST_IMAGES) -> Dataset:
    """Make the data set, in a few seconds. Fewer images are the first ones of more.

    Args:
        train_images, test_images: multiples of 10; the classes are equally frequent.
    """
    train, test = make_images(train_images, TRAIN_SEED), make_images(test_images, TEST_SEED)
    return Dataset("shapes10", train, test, CLASSES, "built in")


def make_images(count: int, seed: int) -> ImageSet:
    """`count` pictures, each run of ten holding every class once, in random order."""
    if count < 10 or count % 10:
        raise ValueError(f"{count} is no positive multiple of 10")
    order_bits, scene_bits, noise_bits = (np.random.PCG64([seed, stream]) for stream in range(3))
    labels = order_bits.random_raw(count).reshape(-1, 10).argsort(axis=1).ravel().astype(np.int64)
    images = np.empty((count, 32, 32, 3), dtype=np.uint8)
    for start in range(0, count, CHUNK):
        part = labels[start : start + CHUNK]
        dice = _Dice(scene_bits.random_raw(len(part) * WORDS_A_PICTURE).reshape(-1, WORDS_A_PICTURE))
        scene = _draw_scene(part, dice)
        _add_noise(scene, dice, noise_bits)
        images[start : start + CHUNK] = np.clip(scene, 0, 255).reshape(-1, 32, 32, 3)
    return ImageSet(images, labels)


def _draw_scene(labels: np.ndarray, dice: _Dice) -> np.ndarray:
    """Background, crumbs, shape and bar, in this order: int32 [N, 1024, 3]."""
    ground = dice.roll(60, 195, 1, 3)
    lighter = dice.roll(0, 1, 1, 1) * 2 - 1
    colour = ground + lighter * (dice.roll(36, 110, 1, 1) * dice.roll(40, 128, 1, 3) >> 7)
    scene = ground + _texture(dice)
    for _ in range(3):
        _paint(scene, _crumb(dice), dice.roll(0, 255, 1, 3))
    _paint(scene, _shape(labels, dice), colour + (_texture(dice) >> 1))
    _paint(scene, _bar(dice), dice.roll(0, 255, 1, 3))
    return scene


def _paint(scene: np.ndarray, distance: np.ndarray, colour: np.ndarray) -> None:
    """Cover what lies inside, in place; within half a pixel of the outline it shines through."""
    opacity = np.clip(distance * 4 + 128, 0, 256)[:, :, None]
    scene += (colour - scene) * opacity >> 8


def _texture(dice: _Dice) -> np.ndarray:
    """Smooth random blotches, int32 [N, 1024, 3]: a lattice of 5x5 random colours, interpolated."""
    strength = dice.roll(8, 96, 1, 1, 1)
    lattice = dice.roll(-128, 127, 5, 5, 3) * strength >> 8
    cell, step = np.divmod(np.arange(32, dtype=np.int32), 8)
    weight = step[None, :, None, None]
    rows = lattice[:, cell] * (8 - weight) + lattice[:, cell + 1] * weight
    weight = step[None, None, :, None]
    full = rows[:, :, cell] * (8 - weight) + rows[:, :, cell + 1] * weight
    return (full >> 6).reshape(-1, 1024, 3)


def _shape(labels: np.ndarray, dice: _Dice) -> np.ndarray:
    """Signed distance to each picture's shape, int32 [N, 1024]."""
    x = GRID_X - dice.roll(-5 * PIXEL, 5 * PIXEL, 1)
    y = GRID_Y - dice.roll(-5 * PIXEL, 5 * PIXEL, 1)
    direction = dice.roll(0, DIRECTIONS - 1, 1)
    size = dice.roll(7 * PIXEL, 12 * PIXEL, 1)
    stretch = dice.roll(218, 300, 1)  # of 256
    u = (x * COS[direction] + y * SIN[direction]) // TRIG_ONE * stretch >> 8
    v = (y * COS[direction] - x * SIN[direction]) // TRIG_ONE
    distance = np.empty_like(u)
    for label, shape in enumerate(SHAPES):
        rows = np.flatnonzero(labels == label)
        distance[rows] = shape(u[rows], v[rows], size[rows])
    return distance


def _crumb(dice: _Dice) -> np.ndarray:
    """Signed distance to a square of 2 to 4 pixels anywhere."""
    x, y = dice.roll(-16 * PIXEL, 16 * PIXEL, 1), dice.roll(-16 * PIXEL, 16 * PIXEL, 1)
    half = dice.roll(PIXEL, 2 * PIXEL, 1)
    return _box(GRID_X - x, GRID_Y - y, half, half)


def _bar(dice: _Dice) -> np.ndarray:
    """Signed distance to an endless bar of 1 to 3 pixels across the picture."""
    direction = dice.roll(0, DIRECTIONS - 1, 1)
    offset = dice.roll(-10 * PIXEL, 10 * PIXEL, 1)
    half = dice.roll(PIXEL // 2, PIXEL * 3 // 2, 1)
    return half - np.abs(GRID_X * COS[direction] + GRID_Y * SIN[direction] - offset * TRIG_ONE) // TRIG_ONE


def _add_noise(scene: np.ndarray, dice: _Dice, bits: np.random.PCG64) -> None:
    """Add triangular noise, in place: the sum of two random bytes, scaled."""
    strength = dice.roll(10, 60, 1, 1)
    # Little-endian whatever the machine, so that a word always yields the same bytes in the same order.
    noise = bits.random_raw(scene.size // 4).astype("<u8").view(np.uint8).reshape(len(scene), 2, 1024, 3)
    scene += (noise[:, 0].astype(np.int32) + noise[:, 1] - 255) * strength >> 8
