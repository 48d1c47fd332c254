"""Class folders: `train/<class>/*.png` and `test/<class>/*.png` (or .jpg, .jpeg), 32x32 pixels each.

`val`, `valid` or `validation` stands in for `test` where there is no such folder, and is then the split
that is evaluated on.

CIFAR-10 by its class names (`car` and `plane` pass for `automobile` and `airplane`) or by its labels 0
to 9 is recognised as such; any other two or more classes work the same way. A class's label is the
place of its folder in order: by number where all names are numbers, else by name.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from fastcifar.dataset.cifar10 import CLASSES, honest_name
from fastcifar.dataset.encoded import ImageFiles
from fastcifar.dataset.image_set import IMAGE_SHAPE, Dataset, ImageSet
from fastcifar.dataset.picture import SUFFIXES, decode_picture
from fastcifar.errors import DataError

TEST_NAMES = ("test", "val", "valid", "validation")
"""What people call the split that is evaluated on; the first that is there counts."""

SYNONYMS = {"car": "automobile", "plane": "airplane"}
FILES_PER_TASK = 500


def is_class_folders(path: Path) -> bool:
    """Whether both splits are there, with a folder of something in each."""
    return all(subfolders(path / split) for split in ("train", _test_name(path)))


def read_class_folders(path: Path) -> Dataset:
    """Read all images below `path`, sorted by class and file name.

    Raises:
        DataError: the splits have different classes, a class has no images, or a file is no 32x32
            picture with 8 bits a channel; names the folder or file.
    """
    test_name = _test_name(path)
    train_folders, test_folders = subfolders(path / "train"), subfolders(path / test_name)
    names = sorted(train_folders, key=_numeric_or_text(train_folders))
    for name in train_folders.keys() ^ test_folders.keys():
        missing = test_name if name in train_folders else "train"
        raise DataError(f"{path / missing}: has no class folder {name}", "both splits need the same classes")
    if len(names) < 2:
        raise DataError(f"{path / 'train'}: has only one class folder", "at least two classes are needed")
    order, classes = _official_order(names)
    train, test = (_read_split([folders[name] for name in order]) for folders in (train_folders, test_folders))
    name = honest_name(train, test, classes, path.resolve().name)
    return Dataset(name, train, test, classes, f"class folders, {path}{evaluated_note(test_name)}")


def _test_name(path: Path) -> str:
    return next((name for name in TEST_NAMES if subfolders(path / name)), "test")


def evaluated_note(test_name: str) -> str:
    """To end `Dataset.source` with, where the test split is called otherwise."""
    return "" if test_name == "test" else f", {test_name} as test set"


def subfolders(path: Path) -> dict[str, Path]:
    """Visible folders inside `path`, by name; empty where there is no such path."""
    if not path.is_dir():
        return {}
    return {entry.name: Path(entry.path) for entry in os.scandir(path) if entry.is_dir() and entry.name[0] != "."}


def _numeric_or_text(names: Iterable[str]) -> Callable[[str], Any]:
    """Sort key: 10 comes after 9, but only where every name is a number."""
    return int if all(name.isdecimal() for name in names) else str


def _official_order(names: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Folder names in order of their labels, and what the classes are called."""
    if names == [str(label) for label in range(10)]:
        return names, CLASSES
    official = {SYNONYMS.get(name.lower(), name.lower()): name for name in names}
    if len(names) == len(CLASSES) and official.keys() == set(CLASSES):
        return [official[name] for name in CLASSES], CLASSES
    return names, tuple(names)


def _read_split(folders: Sequence[Path]) -> ImageSet:
    files: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        try:
            found = sorted(entry.path for entry in os.scandir(folder) if _is_image(entry.name))
        except OSError as error:
            raise DataError(f"{folder}: cannot be read, {error.strerror}", "check its permissions") from None
        if not found:
            raise DataError(f"{folder}: holds no images", f"put {', '.join(SUFFIXES)} files there or remove the folder")
        files += found
        labels += [label] * len(found)
    images = np.empty((len(files), *IMAGE_SHAPE), dtype=np.uint8)

    def read_some(start: int) -> None:
        for index in range(start, min(start + FILES_PER_TASK, len(files))):
            images[index] = _read_picture(files[index])

    with ThreadPoolExecutor() as pool:
        tasks = [pool.submit(read_some, start) for start in range(0, len(files), FILES_PER_TASK)]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # the first bad file is enough: do not read the rest
            raise
    return ImageSet(images, np.array(labels, dtype=np.int64), ImageFiles.of(files))


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _read_picture(path: str) -> np.ndarray:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read, {error.strerror}", "check the file") from None
    return decode_picture(content, path)
