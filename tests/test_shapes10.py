"""shapes10: the same bytes everywhere, true shapes, too hard for a linear model."""

import hashlib
import math

import numpy as np
import pytest

from fastcifar.dataset import shapes10
from fastcifar.dataset.shapes10 import CLASSES, PIXEL, SHAPES, make_images, make_shapes10

SHA256 = "39c302a0b682b4807e6cfb1471c1eed7c869f48e5e0b86d336df1f45a508a69f"
"""Of the first 200 training and 100 test images and their labels."""


@pytest.fixture(scope="module")
def small():
    return make_shapes10(2000, 500)


def test_bytes_are_pinned(small):
    digest = hashlib.sha256()
    for part, count in ((small.train, 200), (small.test, 100)):
        digest.update(part.images[:count].tobytes())
        digest.update(part.labels[:count].astype("<i8").tobytes())
    assert digest.hexdigest() == SHA256


def test_sines_are_far_from_rounding_boundaries():
    for table, function in ((shapes10.COS, math.cos), (shapes10.SIN, math.sin)):
        exact = [4096 * function(2 * math.pi * step / 64) for step in range(64)]
        np.testing.assert_allclose(table, exact, atol=0.49)


def test_fewer_images_are_the_first_ones_of_more():
    many, few = make_images(130, seed=5), make_images(50, seed=5)
    np.testing.assert_array_equal(few.images, many.images[:50])
    np.testing.assert_array_equal(few.labels, many.labels[:50])


def test_another_seed_gives_other_images():
    assert not np.array_equal(make_images(50, seed=1).images, make_images(50, seed=2).images)


def test_classes_are_equally_frequent_and_mixed(small):
    assert small.classes == CLASSES
    assert len(set(CLASSES)) == 10
    assert small.train.class_counts(10) == [200] * 10
    assert not np.array_equal(small.train.labels, np.arange(2000) % 10)


@pytest.mark.parametrize("count", [0, 5, 15, -10])
def test_count_must_be_whole_tens(count):
    with pytest.raises(ValueError, match="multiple of 10"):
        make_images(count, seed=0)


def test_training_and_test_images_differ(small):
    train, test = ({image.tobytes() for image in part.images} for part in (small.train, small.test))
    assert len(train) == 2000
    assert not train & test


def test_it_says_that_it_is_not_cifar10(small):
    assert small.title == "shapes10 (not CIFAR-10)"


def mask(shape, r=12 * PIXEL, size=512):
    """Where a shape is, on a fine grid of `size` points a side and three radii across."""
    axis = ((np.arange(size) + 0.5) / size * 3 - 1.5) * r
    u, v = (grid.astype(np.int32) for grid in np.meshgrid(axis, axis))
    return shape(u, v, r) > 0


def circles_common_area(first, second, apart):
    """Textbook area of the lens that two circles share."""
    x = (apart**2 + first**2 - second**2) / (2 * apart)
    y = math.sqrt(first**2 - x**2)
    return (
        first**2 * math.acos(x / first) + second**2 * math.acos((apart - x) / second) - apart * y
    )  # both circular segments


INNER = 6 / 16
AREAS = {
    "disc": math.pi,
    "ring": math.pi * (1 - (9 / 16) ** 2),
    "crescent": math.pi - circles_common_area(1, 13 / 16, 9 / 16),
    "square": (2 * 14 / 16) ** 2,
    "frame": 3 / 4 * (2 * 14 / 16) ** 2,
    "triangle": 3 * math.sqrt(3) * (9 / 16) ** 2,
    "cross": 2 * 2 * (2 * 5 / 16) - (2 * 5 / 16) ** 2,
    # five tips on the sides of a pentagon with inradius INNER
    "star": 5 * INNER**2 * math.tan(math.pi / 5) / math.cos(2 * math.pi / 5),
    "stripes": 3 * (2 * 3 / 16) * (2 * 14 / 16),
    "checker": (2 * 15 / 16) ** 2 / 2,
}


@pytest.mark.parametrize("shape", SHAPES, ids=CLASSES)
def test_area_is_that_of_the_figure(shape):
    area = mask(shape).mean() * 9
    assert area == pytest.approx(AREAS[shape.__name__], rel=0.02)


@pytest.mark.parametrize("shape", SHAPES, ids=CLASSES)
def test_a_flipped_shape_is_a_turned_one(shape):
    """So neither flips nor rotations, which are drawn for every picture, can change the class."""
    drawn = mask(shape)
    turned = [np.rot90(drawn, quarter) for quarter in range(4)]
    assert min((np.fliplr(drawn) != other).mean() for other in turned) < 0.003


def test_shapes_differ_however_they_are_turned():
    masks = {shape.__name__: mask(shape, size=96) for shape in SHAPES}
    for name, drawn in masks.items():
        for other, turned in masks.items():
            if other != name:
                assert min((drawn != np.rot90(turned, quarter)).mean() for quarter in range(4)) > 0.02


def test_a_linear_model_stays_below_half(small):
    """Ridge regression on pixels, solved exactly, at the best of several strengths."""
    train, test = (
        part.images.reshape(len(part), -1) / np.float32(255) - np.float32(0.5) for part in (small.train, small.test)
    )
    gram, cross = train @ train.T, test @ train.T
    targets = np.eye(10, dtype=np.float32)[small.train.labels]
    accuracies = []
    for strength in (10, 1000, 100_000):
        weights = np.linalg.solve(gram + strength * np.eye(len(gram), dtype=np.float32), targets)
        accuracies.append(((cross @ weights).argmax(axis=1) == small.test.labels).mean())
    assert max(accuracies) < 0.5
