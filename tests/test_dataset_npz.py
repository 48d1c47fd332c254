"""The cached form: written whole, read without pickle, and every kind of damage named."""

from typing import Any

import numpy as np
import pytest
from fake_cifar10 import assert_same, fake_dataset, shrink

from fastcifar.dataset.cifar10 import CLASSES
from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.npz import read_npz, write_npz
from fastcifar.errors import DataError, UsageError


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    shrink(monkeypatch)


def arrays(dataset: Dataset) -> dict[str, Any]:
    return {
        "x_train": dataset.train.images,
        "y_train": dataset.train.labels,
        "x_test": dataset.test.images,
        "y_test": dataset.test.labels,
    }


def test_round_trip(tmp_path):
    dataset = fake_dataset()
    path = tmp_path / "new" / "cifar10.npz"
    write_npz(dataset, path)
    read = read_npz(path)
    assert_same(read, dataset)
    assert (read.name, read.classes) == ("cifar10", CLASSES)
    assert list(path.parent.iterdir()) == [path]


def test_own_classes_and_sizes_survive(tmp_path):
    whole = fake_dataset()
    dataset = Dataset("pets", whole.train.take(np.arange(7)), whole.test, tuple("abcdefghij"), "")
    write_npz(dataset, tmp_path / "pets.npz")
    read = read_npz(tmp_path / "pets.npz")
    assert_same(read, dataset)
    assert (read.name, read.classes) == ("pets", dataset.classes)


def test_keras_file(tmp_path):
    dataset = fake_dataset()
    columns = {key: array.astype(np.uint8)[:, None] for key, array in arrays(dataset).items() if key[0] == "y"}
    np.savez_compressed(tmp_path / "keras.npz", **arrays(dataset) | columns)
    assert_same(read_npz(tmp_path / "keras.npz"), dataset)


def test_part_without_class_names_is_refused(tmp_path):
    content = arrays(fake_dataset())
    content["x_train"], content["y_train"] = content["x_train"][:50], content["y_train"][:50]
    np.savez(tmp_path / "part.npz", **content)
    with pytest.raises(DataError, match=r"part\.npz: .* training images of class airplane instead of 10"):
        read_npz(tmp_path / "part.npz")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"y_test": None}, "has no array y_test"),
        ({"x_train": np.zeros((100, 3, 32, 32), np.uint8)}, "x_train is uint8 .*channels last"),
        ({"x_train": np.zeros((100, 32, 32, 3), np.float32)}, "x_train is float32"),
        ({"x_test": np.zeros((0, 32, 32, 3), np.uint8)}, "x_test is uint8"),
        ({"y_train": np.zeros(99, np.int64)}, "y_train is int64"),
        ({"y_train": np.zeros(100, np.float32)}, "y_train is float32"),
        ({"y_test": np.full(20, 10)}, r"y_test\[0\] is 10, outside 0 to 9"),
        ({"y_test": np.full(20, -1)}, r"y_test\[0\] is -1, outside 0 to 9"),
        ({"y_test": np.array([print] * 20, dtype=object)}, "damaged or no .npz file"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, change, problem):
    content = {key: array for key, array in (arrays(fake_dataset()) | change).items() if array is not None}
    np.savez(tmp_path / "bad.npz", **content)
    with pytest.raises(DataError, match=rf"bad\.npz: {problem}"):
        read_npz(tmp_path / "bad.npz")


@pytest.mark.parametrize("keep", [0, 100, 200_000])
def test_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "cifar10.npz"
    write_npz(fake_dataset(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cifar10\.npz: damaged or no \.npz file"):
        read_npz(path)


def test_a_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "cifar10.npz"
    write_npz(fake_dataset(), path)
    content = bytearray(path.read_bytes())
    content[100_000] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="damaged"):
        read_npz(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "cifar10.npz"
    path.write_bytes(b"old")

    def fail_half_way(file, **_arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail_half_way)
    with pytest.raises(UsageError, match=r"cifar10\.npz: cannot be written, No space left on device"):
        write_npz(fake_dataset(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
