"""CIFAR-10's official batches: five training files and a test file of 10,000 records each.

Layouts as described by their author, https://www.cs.toronto.edu/~kriz/cifar.html: in the binary layout a
record is one label byte and 3,072 pixel bytes (red plane, green plane, blue plane, each by rows); in the
python layout a file is a pickle of the same rows and labels (read by `python_batch.py`).
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastcifar.dataset.image_set import IMAGE_SHAPE, Dataset, ImageSet
from fastcifar.dataset.python_batch import PickleRefusedError, read_pickled_batch
from fastcifar.errors import DataError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORDS_PER_FILE = 10_000
PIXEL_BYTES = 32 * 32 * 3
PUBLISHED_MEAN = (0.4914, 0.4822, 0.4465)
PUBLISHED_STD = (0.2470, 0.2435, 0.2616)
"""Of the 50,000 training images, as quoted throughout the literature."""

PYTHON_FILES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
BINARY_FILES = tuple(f"{name}.bin" for name in PYTHON_FILES)

GET_A_GOOD_COPY = "get a good copy with `fastcifar data download`"

Batch = tuple[np.ndarray, np.ndarray]
"""Labels, integers [R], and pixels, uint8 [R, 3072], of one file."""


def read_binary_folder(folder: Path) -> Dataset:
    """Read `data_batch_1.bin` ... `test_batch.bin` from a folder."""
    return assemble(BINARY_FILES, _file_reader(folder), decode_binary, folder, "binary")


def read_python_folder(folder: Path) -> Dataset:
    """Read the pickles `data_batch_1` ... `test_batch` from a folder, without trusting them."""
    return assemble(PYTHON_FILES, _file_reader(folder), decode_python, folder, "python")


def _file_reader(folder: Path) -> Callable[[str], bytes]:
    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except FileNotFoundError:
            raise DataError(f"{folder / name}: missing", GET_A_GOOD_COPY) from None
        except OSError as error:
            raise DataError(f"{folder / name}: cannot be read, {error.strerror}", "check the file") from None

    return read


def assemble(
    names: tuple[str, ...],
    read: Callable[[str], bytes],
    decode: Callable[[bytes, str], Batch],
    place: Path,
    layout: str,
) -> Dataset:
    """Read six batch files, check them, and turn colour planes into [32, 32, 3] images.

    Args:
        names: the five training files and the test file, in order.
        read: content of a file, by name.
        decode: content and full name -> labels and pixels.
        place: folder or tarball, for messages.
        layout: "binary" or "python", for `Dataset.source`.

    Raises:
        DataError: a file is missing, damaged or holds something else.
    """
    total = len(names) * RECORDS_PER_FILE
    images = np.empty((total, *IMAGE_SHAPE), dtype=np.uint8)
    labels = np.empty(total, dtype=np.int64)
    for index, name in enumerate(names):
        rows = slice(index * RECORDS_PER_FILE, (index + 1) * RECORDS_PER_FILE)
        file_labels, pixels = decode(read(name), str(place / name))
        _check_labels(file_labels, str(place / name))
        labels[rows] = file_labels
        planes = pixels.reshape(-1, 3, 32, 32)
        for channel in range(3):  # a plane at a time copies faster than one transpose
            images[rows, :, :, channel] = planes[:, channel]
    split = total - RECORDS_PER_FILE
    train, test = ImageSet(images[:split], labels[:split]), ImageSet(images[split:], labels[split:])
    check_complete(train, test, str(place))
    return Dataset("cifar10", train, test, CLASSES, f"{layout}, {place}")


def decode_binary(content: bytes, name: str) -> Batch:
    """Split a binary batch file into labels and pixels."""
    expected = RECORDS_PER_FILE * (1 + PIXEL_BYTES)
    if len(content) != expected:
        kind = "truncated" if len(content) < expected else "no CIFAR-10 batch"
        raise DataError(f"{name}: {kind}, {len(content):,} bytes instead of {expected:,}", GET_A_GOOD_COPY)
    records = np.frombuffer(content, dtype=np.uint8).reshape(RECORDS_PER_FILE, 1 + PIXEL_BYTES)
    return records[:, 0], records[:, 1:]


def decode_python(content: bytes, name: str) -> Batch:
    """Read labels and pixels out of a pickled batch file."""
    try:
        labels, pixels = read_pickled_batch(content)
    except PickleRefusedError as error:
        raise DataError(f"{name}: no CIFAR-10 batch, {error}", GET_A_GOOD_COPY) from None
    if pixels.shape != (RECORDS_PER_FILE, PIXEL_BYTES) or len(labels) != RECORDS_PER_FILE:
        raise DataError(
            f"{name}: {len(labels):,} labels and pixels of shape {pixels.shape}"
            f" instead of {RECORDS_PER_FILE:,} images of {PIXEL_BYTES:,} bytes",
            GET_A_GOOD_COPY,
        )
    return labels, pixels


def _check_labels(labels: np.ndarray, name: str) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= len(CLASSES)))
    if len(wrong):
        raise DataError(f"{name}: image {wrong[0]:,} has label {labels[wrong[0]]}, outside 0 to 9", GET_A_GOOD_COPY)


def check_complete(train: ImageSet, test: ImageSet, name: str) -> None:
    """Refuse what is not all of CIFAR-10: 5,000 training and 1,000 test images of each class.

    Raises:
        DataError: another number of images in some class: a part, a mix-up or other data.
    """
    train_per_class, test_per_class = RECORDS_PER_FILE // 2, RECORDS_PER_FILE // 10
    for split, images, expected in (("training", train, train_per_class), ("test", test, test_per_class)):
        for label, count in zip(CLASSES, images.class_counts(len(CLASSES)), strict=True):
            if count != expected:
                raise DataError(
                    f"{name}: {count:,} {split} images of class {label} instead of {expected:,}",
                    GET_A_GOOD_COPY,
                )


def honest_name(train: ImageSet, test: ImageSet, classes: tuple[str, ...], own_name: str) -> str:
    """Name for a set that says by itself what its classes are: "cifar10" only where all of it is there."""
    if classes == CLASSES:
        try:
            check_complete(train, test, own_name)
            return "cifar10"
        except DataError:
            pass
    return f"own-{own_name}" if own_name in ("cifar10", "shapes10") else own_name
