"""Recognise the layouts in which people keep CIFAR-10, without reading the data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastcifar.dataset.cifar10 import BINARY_FILES, PYTHON_FILES, read_binary_folder, read_python_folder
from fastcifar.dataset.folder import is_class_folders, read_class_folders, subfolders
from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.npz import read_npz
from fastcifar.dataset.tarball import read_tarball
from fastcifar.dataset.webdataset import find_shards, read_webdataset

CACHE_FILE = "cifar10.npz"
BINARY_FOLDER, PYTHON_FOLDER = "cifar-10-batches-bin", "cifar-10-batches-py"
BINARY_TARBALL, PYTHON_TARBALL = "cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"

RECOGNISED = (
    f"{CACHE_FILE}, {BINARY_FOLDER}, {PYTHON_FOLDER}, {BINARY_TARBALL}, {PYTHON_TARBALL}, "
    "train-*.tar and test-*.tar (WebDataset shards), "
    "or train/ and test/ with a folder of 32x32 PNG or JPEG files for each class"
)


@dataclass(frozen=True)
class Layout:
    """Data in a known form at a known place.

    Attributes:
        kind: "npz", "binary", "python", "tarball", "webdataset" or "class folders".
        path: the file or folder that holds it.
    """

    kind: str
    path: Path
    _reader: Callable[[Path], Dataset]

    def read(self) -> Dataset:
        """Read and check the data; raises DataError naming the file that is wrong."""
        return self._reader(self.path)


def find_layouts(place: Path) -> list[Layout]:
    """Every layout at `place`, the one to prefer first; empty where nothing is recognised.

    Quick and pickle-free forms come first. A layout counts as found from its first file on, so that a
    missing second file is reported instead of another copy being used silently.
    """
    if place.is_file():
        return _file_layouts(place)
    found = []
    if (place / CACHE_FILE).is_file():
        found.append(Layout("npz", place / CACHE_FILE, read_npz))
    found += [
        Layout("binary", folder, read_binary_folder)
        for folder in (place, place / BINARY_FOLDER)
        if _any_file(folder, BINARY_FILES)
    ]
    if (place / BINARY_TARBALL).is_file():
        found.append(Layout("tarball", place / BINARY_TARBALL, read_tarball))
    if find_shards(place):
        found.append(Layout("webdataset", place, read_webdataset))
    if is_class_folders(place):
        found.append(Layout("class folders", place, read_class_folders))
    found += [
        Layout("python", folder, read_python_folder)
        for folder in (place, place / PYTHON_FOLDER)
        if _any_file(folder, PYTHON_FILES)
    ]
    if (place / PYTHON_TARBALL).is_file():
        found.append(Layout("tarball", place / PYTHON_TARBALL, read_tarball))
    return found


def find_named_layouts(place: Path) -> list[Layout]:
    """`find_layouts` at a place that the user named.

    Where nothing is recognised there, but just one visible folder lies in it, as in many an unpacked
    archive, what is in that.
    """
    inner = list(subfolders(place).values())
    return find_layouts(place) or (find_layouts(inner[0]) if len(inner) == 1 else [])


def _file_layouts(file: Path) -> list[Layout]:
    if file.suffix == ".npz":
        return [Layout("npz", file, read_npz)]
    if file.name.endswith((".tar.gz", ".tgz", ".tar")):
        return [Layout("tarball", file, read_tarball)]
    return []


def _any_file(folder: Path, names: tuple[str, ...]) -> bool:
    return any((folder / name).is_file() for name in names)
