"""Channel statistics against float64 NumPy and against the literature."""

import os

import numpy as np
import pytest

from fastcifar.dataset.load import load_dataset
from fastcifar.dataset.statistics import CHUNK, channel_statistics
from fastcifar.dataset.summary import dataset_summary


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (7, 5, 3, 3), (CHUNK + 13, 4, 4, 3)])
def test_against_float64(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    statistics = channel_statistics(images)
    fractions = images.astype(np.float64) / 255
    np.testing.assert_allclose(statistics.mean, fractions.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(statistics.std, fractions.std(axis=(0, 1, 2)), rtol=1e-9, atol=1e-12)


def test_extremes_are_exact():
    images = np.zeros((2, 32, 32, 3), np.uint8)
    images[0, :, :, 1] = 255
    images[..., 2] = 255
    statistics = channel_statistics(images)
    assert statistics.mean == (0.0, 0.5, 1.0)
    assert statistics.std == (0.0, 0.5, 0.0)


@pytest.mark.skipif("FASTCIFAR_DATA_DIR" not in os.environ, reason="FASTCIFAR_DATA_DIR names no CIFAR-10")
def test_cifar10_has_its_published_statistics():
    dataset = load_dataset("cifar10", os.environ["FASTCIFAR_DATA_DIR"])
    statistics = channel_statistics(dataset.train.images)
    assert [round(value, 4) for value in statistics.mean] == [0.4914, 0.4822, 0.4465]
    assert [round(value, 4) for value in statistics.std] == [0.2470, 0.2435, 0.2616]
    assert dataset.train.class_counts(10) == [5000] * 10
    assert dataset.test.class_counts(10) == [1000] * 10
    assert dataset_summary(dataset)["as_published"] is True
