"""Take a copy of the data in any layout and keep it as .npz: checked once, quick and pickle-free later."""

from pathlib import Path

from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.layouts import RECOGNISED, find_named_layouts
from fastcifar.dataset.npz import write_npz
from fastcifar.errors import DataError
from fastcifar.paths import cache_dir


def import_dataset(path: Path, to: Path | None = None) -> tuple[Path, Dataset]:
    """Read and check what lies at `path`, write it, and return the written file and the data.

    Args:
        to: file to write if its name ends in .npz, else folder. Default: the cache, where CIFAR-10 is
            then found by itself.

    Raises:
        DataError: nothing known lies at `path`, or it is damaged or foreign.
        UsageError: `to` cannot be written to.
    """
    try:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder", "check the path")
        layouts = find_named_layouts(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read, {error.strerror}", "check its permissions") from None
    if not layouts:
        raise DataError(f"{path}: holds no CIFAR-10", f"it may hold {RECOGNISED}")
    dataset = layouts[0].read()
    folder = to or cache_dir()
    target = folder if folder.suffix == ".npz" else folder / f"{dataset.name}.npz"
    write_npz(dataset, target)
    return target, dataset
