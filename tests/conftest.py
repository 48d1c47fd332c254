"""What several test files share: the real data where it is, and a small set of shapes where it is not needed."""

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from unittest.mock import patch

# Read when torch is imported, here and in every process that a test starts: on a machine that others share, threads
# that spin while they wait take the time from those they wait for, and a test of seconds takes minutes.
os.environ.setdefault("GOMP_SPINCOUNT", "5000")

import numpy as np
import pytest
import torch
from colour_dataset import make_colour_dataset

from fastcifar.dataset import load
from fastcifar.dataset.image_set import Dataset, ImageSet
from fastcifar.paths import compiled_code_dirs


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """The same arithmetic on every machine that runs the tests, and no oversubscription."""
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(scope="session", autouse=True)
def _shapes10_made_once() -> Iterator[None]:
    """Every command that is tried with the built-in set would make the same images anew, for seconds."""
    with patch.object(load, "make_shapes10", cache(load.make_shapes10)):
        yield


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    """No FASTCIFAR_* from outside; caches and runs below tmp_path, compiled code's too once a run names its place."""
    for name in compiled_code_dirs():
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name in list(os.environ):
        if name.startswith("FASTCIFAR_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FASTCIFAR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTCIFAR_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def colours() -> Dataset:
    return make_colour_dataset()


@pytest.fixture
def shuffled_colours(colours: Dataset) -> Dataset:
    """The same images with labels that mean nothing."""
    labels = np.random.default_rng(1).permutation(colours.train.labels)
    return replace(colours, train=ImageSet(colours.train.images, labels))
