"""What several test files share: the real data where it is, and a small set of shapes where it is not needed."""

import os
from dataclasses import replace

# Read when torch is imported, here and in every process that a test starts: on a machine that others share, threads
# that spin while they wait take the time from those they wait for, and a test of seconds takes minutes.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

import numpy as np
import pytest
import torch

from fastcifar.dataset.image_set import Dataset, ImageSet


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """The same arithmetic on every machine that runs the tests, and no oversubscription."""
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """No FASTCIFAR_* from outside; caches and runs below tmp_path."""
    for name in list(os.environ):
        if name.startswith("FASTCIFAR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FASTCIFAR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTCIFAR_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)


def make_colour_dataset(train: int = 400, test: int = 100, seed: int = 0) -> Dataset:
    """Ten classes told apart by their mean colour under noise: learnt within a few steps."""
    generator = np.random.default_rng(seed)
    colours = generator.integers(40, 216, (10, 3))

    def split(count: int) -> ImageSet:
        labels = generator.permutation(np.arange(count) % 10).astype(np.int64)
        noise = generator.normal(0, 25, (count, 32, 32, 3))
        images = np.clip(colours[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
        return ImageSet(images, labels)

    classes = tuple(f"colour{i}" for i in range(10))
    return Dataset("colours", split(train), split(test), classes, "made by the tests")


@pytest.fixture(scope="session")
def colours() -> Dataset:
    return make_colour_dataset()


@pytest.fixture
def shuffled_colours(colours: Dataset) -> Dataset:
    """The same images with labels that mean nothing."""
    labels = np.random.default_rng(1).permutation(colours.train.labels)
    return replace(colours, train=ImageSet(colours.train.images, labels))
