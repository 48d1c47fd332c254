"""A tiny CIFAR-10 in every official layout, for tests: 20 records a file, random pixels."""

import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from fastcifar.dataset import cifar10
from fastcifar.dataset.image_set import Dataset, ImageSet

RECORDS = 20
FILE_NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the readers expect files of 20 records instead of 10,000."""
    monkeypatch.setattr(cifar10, "RECORDS_PER_FILE", RECORDS)


def fake_dataset(seed: int = 0) -> Dataset:
    """100 training and 20 test images, all classes equally often."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (120, 32, 32, 3), dtype=np.uint8)
    labels = np.concatenate([random.permutation(100) % 10, random.permutation(20) % 10]).astype(np.int64)
    train, test = ImageSet(images[:100], labels[:100]), ImageSet(images[100:], labels[100:])
    return Dataset("cifar10", train, test, cifar10.CLASSES, "fake")


def binary_files(dataset: Dataset) -> dict[str, bytes]:
    """The binary layout, written record by record as its author describes it."""
    records = []
    for images in (dataset.train, dataset.test):
        for image, label in zip(images.images, images.labels, strict=True):
            planes = (image[:, :, channel].tobytes() for channel in range(3))
            records.append(bytes([label]) + b"".join(planes))
    return {f"{name}.bin": b"".join(records[i * RECORDS : (i + 1) * RECORDS]) for i, name in enumerate(FILE_NAMES)}


def python_files(dataset: Dataset) -> dict[str, bytes]:
    """The python layout, opcode by opcode as Python 2 and the NumPy of 2009 wrote it."""
    return {
        name: _python2_pickle(list(content[:: 1 + 3072]), b"".join(content[i + 1 : i + 3073] for i in starts))
        for (binary_name, content) in binary_files(dataset).items()
        for name in [binary_name.removesuffix(".bin")]
        for starts in [range(0, len(content), 3073)]
    }


def _python2_pickle(labels: list[int], pixels: bytes) -> bytes:
    return b"".join(
        [
            b"\x80\x02}q\x01(U\x04dataq\x02",
            b"cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05",
            b"(K\x01" + b"J" + struct.pack("<i", len(labels)) + b"M\x00\x0c\x86",
            b"cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07",
            b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + struct.pack("<i", len(pixels)) + pixels + b"tb",
            b"U\x06labelsq\x08](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e",
            b"U\x0bbatch_labelq\x09U\x15training batch 1 of 5u.",
        ]
    )


def modern_pickle(dataset: ImageSet, protocol: int) -> bytes:
    """One batch as today's Python and NumPy pickle it."""
    pixels = dataset.images[:RECORDS].transpose(0, 3, 1, 2).reshape(RECORDS, 3072).copy()
    return pickle.dumps({b"data": pixels, b"labels": dataset.labels[:RECORDS].tolist()}, protocol=protocol)


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def tarball(files: dict[str, bytes], folder: str = "cifar-10-batches") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def assert_same(actual: Dataset, expected: Dataset) -> None:
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(actual, split).images, getattr(expected, split).images)
        np.testing.assert_array_equal(getattr(actual, split).labels, getattr(expected, split).labels)
