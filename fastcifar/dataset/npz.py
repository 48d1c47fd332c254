"""Data sets as one uncompressed .npz file: the form of the cache. No pickle is read or written.

Arrays, named as Keras names them:
    x_train, x_test: uint8 [N, 32, 32, 3]
    y_train, y_test: integers [N] or [N, 1]
    classes: strings [C]. Without it the file must be all of CIFAR-10, in its official class order.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from fastcifar.atomic import written_whole
from fastcifar.dataset.cifar10 import CLASSES, check_complete, honest_name
from fastcifar.dataset.image_set import IMAGE_SHAPE, Dataset, ImageSet
from fastcifar.errors import DataError

KEYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: Path) -> Dataset:
    """Read a data set from `path`.

    Raises:
        DataError: the file is damaged, an array is missing, or shapes, dtypes or labels are wrong.
    """
    arrays = _read_arrays(path)
    for key in KEYS:
        if key not in arrays:
            raise DataError(f"{path}: has no array {key}", f"it needs {', '.join(KEYS)}")
    named = "classes" in arrays
    classes = tuple(str(name) for name in arrays["classes"].ravel()) if named else CLASSES
    train, test = (_image_set(arrays, split, len(classes), path) for split in ("train", "test"))
    if not named:
        check_complete(train, test, str(path))
    return Dataset(honest_name(train, test, classes, path.stem), train, test, classes, f"npz, {path}")


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return {key: file[key] for key in (*KEYS, "classes") if key in file.files}
    except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path}: damaged or no .npz file, {error}", "make it again with `fastcifar data import`"
        ) from None


def _image_set(arrays: dict[str, np.ndarray], split: str, classes: int, path: Path) -> ImageSet:
    images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"]
    if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE or not len(images):
        raise DataError(
            f"{path}: x_{split} is {images.dtype} {images.shape}",
            "store it as uint8 [N, 32, 32, 3], channels last",
        )
    if labels.dtype.kind not in "iu" or labels.size != len(images):
        raise DataError(
            f"{path}: y_{split} is {labels.dtype} {labels.shape}",
            f"store one integer for each of {len(images):,} images",
        )
    labels = labels.ravel()
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{path}: y_{split}[{wrong[0]}] is {labels[wrong[0]]}, outside 0 to {classes - 1}",
            "mend the labels",
        )
    return ImageSet(np.ascontiguousarray(images), labels.astype(np.int64))


def write_npz(dataset: Dataset, path: Path) -> None:
    """Write a data set to `path`, all of it or nothing.

    Raises:
        UsageError: the place cannot be written to.
    """
    with written_whole(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            x_train=dataset.train.images,
            y_train=dataset.train.labels,
            x_test=dataset.test.images,
            y_test=dataset.test.labels,
            classes=np.array(dataset.classes),
        )
