"""The official layouts: read right, and every kind of damage named."""

import io
import pickle
import tarfile

import numpy as np
import pytest
from fake_cifar10 import (
    assert_same,
    binary_files,
    fake_dataset,
    modern_pickle,
    python_files,
    shrink,
    tarball,
    write_files,
)

from fastcifar.dataset.cifar10 import read_binary_folder, read_python_folder
from fastcifar.dataset.python_batch import PickleRefusedError, read_pickled_batch
from fastcifar.dataset.tarball import read_tarball
from fastcifar.errors import DataError


@pytest.fixture(autouse=True)
def _small_files(monkeypatch):
    shrink(monkeypatch)


def test_binary_folder(tmp_path):
    dataset = fake_dataset()
    read = read_binary_folder(write_files(tmp_path, binary_files(dataset)))
    assert_same(read, dataset)
    assert read.name == "cifar10"
    assert read.source == f"binary, {tmp_path}"


def test_python_folder(tmp_path):
    dataset = fake_dataset()
    assert_same(read_python_folder(write_files(tmp_path, python_files(dataset))), dataset)


@pytest.mark.parametrize("files", [binary_files, python_files])
def test_tarballs(tmp_path, files):
    dataset = fake_dataset()
    path = tmp_path / "any-name.tgz"
    path.write_bytes(tarball({"readme.html": b"<html>", **files(dataset)}))
    assert_same(read_tarball(path), dataset)
    assert list(tmp_path.iterdir()) == [path]


def test_missing_file_is_named(tmp_path):
    write_files(tmp_path, binary_files(fake_dataset()))
    (tmp_path / "data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_4\.bin: missing \(.*fastcifar data download"):
        read_binary_folder(tmp_path)


@pytest.mark.parametrize(("change", "problem"), [(-1, "truncated"), (1, "no CIFAR-10 batch"), (-61460, "truncated")])
def test_wrong_size_is_named(tmp_path, change, problem):
    files = binary_files(fake_dataset())
    content = files["data_batch_2.bin"]
    files["data_batch_2.bin"] = content[:change] if change < 0 else content + b"x"
    with pytest.raises(DataError, match=rf"data_batch_2\.bin: {problem}, [\d,]+ bytes instead of 61,460"):
        read_binary_folder(write_files(tmp_path, files))


def test_wrong_label_is_named(tmp_path):
    files = binary_files(fake_dataset())
    broken = bytearray(files["test_batch.bin"])
    broken[7 * 3073] = 10
    files["test_batch.bin"] = bytes(broken)
    with pytest.raises(DataError, match=r"test_batch\.bin: image 7 has label 10, outside 0 to 9"):
        read_binary_folder(write_files(tmp_path, files))


def test_a_repeated_batch_is_noticed(tmp_path):
    files = binary_files(fake_dataset())
    files["data_batch_2.bin"] = files["data_batch_1.bin"]
    with pytest.raises(DataError, match=r"training images of class \w+ instead of 10"):
        read_binary_folder(write_files(tmp_path, files))


def test_hand_made_pickle_is_what_numpy_reads_too():
    content = python_files(fake_dataset())["data_batch_1"]
    labels, pixels = read_pickled_batch(content)
    reference = pickle.loads(content, encoding="bytes")
    np.testing.assert_array_equal(pixels, reference[b"data"])
    np.testing.assert_array_equal(labels, reference[b"labels"])


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_today_are_read(protocol):
    images = fake_dataset().train
    labels, pixels = read_pickled_batch(modern_pickle(images, protocol))
    np.testing.assert_array_equal(labels, images.labels[:20])
    np.testing.assert_array_equal(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), images.images[:20])


class _Command:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_cannot_run_anything(tmp_path):
    victim = tmp_path / "victim"
    evil = pickle.dumps({b"data": _Command(str(victim)), b"labels": [1]})
    pickle.loads(evil).get(b"data").close()
    assert victim.exists(), "the attack works on an unguarded reader"
    victim.unlink()
    files = python_files(fake_dataset()) | {"data_batch_3": evil}
    with pytest.raises(DataError, match=r"data_batch_3: no CIFAR-10 batch, it wants to use io\.open"):
        read_python_folder(write_files(tmp_path / "data", files))
    assert not victim.exists()


@pytest.mark.parametrize(
    "batch",
    [
        [1, 2],
        {b"labels": [1]},
        {b"labels": ["1"], b"data": np.zeros((1, 3072), np.uint8)},
        {b"labels": [2**70], b"data": np.zeros((1, 3072), np.uint8)},
        {b"labels": [1], b"data": np.zeros((1, 3072), np.float32)},
        {b"labels": [1], b"data": np.zeros(3072, np.uint8)},
        {b"labels": [1], b"data": np.asfortranarray(np.zeros((2, 3072), np.uint8))},
        {b"labels": [1], b"data": b"pixels"},
        {b"fine_labels": [1], b"data": np.zeros((1, 3072), np.uint8)},
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_other_pickles_are_refused(batch, protocol):
    with pytest.raises(PickleRefusedError):
        read_pickled_batch(pickle.dumps(batch, protocol=protocol))


@pytest.mark.parametrize("keep", [0, 1, 100, 60_000])
def test_truncated_pickle_is_named(tmp_path, keep):
    files = python_files(fake_dataset())
    files["data_batch_1"] = files["data_batch_1"][:keep]
    with pytest.raises(DataError, match=r"data_batch_1: no CIFAR-10 batch, its pickle is damaged"):
        read_python_folder(write_files(tmp_path, files))


def test_short_pickle_is_named(tmp_path):
    files = python_files(fake_dataset())
    files["test_batch"] = pickle.dumps({b"labels": [1], b"data": np.zeros((1, 3072), np.uint8)})
    with pytest.raises(DataError, match=r"test_batch: 1 labels and pixels of shape \(1, 3072\)"):
        read_python_folder(write_files(tmp_path, files))


@pytest.mark.parametrize("keep", [0, 10, 1000, 300_000])
def test_truncated_tarball_is_named(tmp_path, keep):
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(tarball(binary_files(fake_dataset()))[:keep])
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: "):
        read_tarball(path)


def test_links_and_oversized_members_are_no_batches(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        link = tarfile.TarInfo("x/data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        huge = tarfile.TarInfo("x/data_batch_2.bin")
        huge.size = 41_000_000
        tar.addfile(huge, io.BytesIO(bytes(huge.size)))
    path = tmp_path / "evil.tar.gz"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"evil\.tar\.gz: holds no data_batch_1, so it is not all of CIFAR-10"):
        read_tarball(path)
