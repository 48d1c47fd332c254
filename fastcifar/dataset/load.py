"""The one entrance to the data: by name, from the first place that has it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.layouts import RECOGNISED, Layout, find_layouts, find_named_layouts
from fastcifar.dataset.shapes10 import make_shapes10
from fastcifar.errors import DataError, UsageError
from fastcifar.paths import data_dir_candidates

NAMES = ("cifar10", "shapes10")
NAMED_BY_USER = ("--data-dir", "FASTCIFAR_DATA_DIR")


@dataclass(frozen=True)
class Place:
    """A file or folder that was searched.

    Attributes:
        origin: where the choice came from: "--data-dir", "FASTCIFAR_DATA_DIR", "./data" or "cache".
        layouts: what was recognised there, the one to prefer first.
    """

    origin: str
    path: Path
    layouts: list[Layout]

    @property
    def chosen_by_user(self) -> bool:
        return self.origin in NAMED_BY_USER


def search(data_dir: str | None = None) -> list[Place]:
    """Every place that CIFAR-10 is looked for, in order, with what lies there. Reads no data.

    Raises:
        DataError: the user named a place that does not exist, or a place cannot be read.
    """
    places = []
    for origin, path in data_dir_candidates(data_dir):
        try:
            find = find_named_layouts if origin in NAMED_BY_USER else find_layouts
            place = Place(origin, path, find(path))
            if place.chosen_by_user and not path.exists():
                raise DataError(f"{origin} {path}: no such file or folder", "check the path")
        except OSError as error:
            raise DataError(f"{origin} {path}: cannot be read, {error.strerror}", "check its permissions") from None
        places.append(place)
    return places


def choose(places: list[Place], offline: bool = False) -> tuple[Place, Layout]:
    """The first place that has anything, and the layout to prefer there.

    Raises:
        DataError: nothing was found; says where it was looked for and what to do.
    """
    for place in places:
        if place.layouts:
            return place, place.layouts[0]
    for place in places:
        if place.chosen_by_user:
            raise DataError(f"{place.origin} {place.path}: holds no CIFAR-10", f"it may hold {RECOGNISED}")
    ways_out = "name its folder with --data-dir, or use --dataset shapes10, which needs no files"
    if not offline:
        ways_out = f"run `fastcifar data download`, {ways_out}"
    looked = " or ".join(f"{place.path} ({place.origin})" for place in places)
    raise DataError(f"CIFAR-10 not found in {looked}", ways_out)


def find_dataset(name: str, data_dir: str | None = None, offline: bool = False) -> dict[str, Any]:
    """Where a data set was looked for, what lies there and what `load_dataset` would read.

    Returns:
        "dataset"; "searched": a list of {"from", "path", "found": [{"layout", "path"}]}; "source".
    """
    if _is_built_in(name, data_dir):
        return {"dataset": name, "searched": [], "source": f"{name}, built in"}
    places = search(data_dir)
    _, layout = choose(places, offline)
    searched = [
        {
            "from": place.origin,
            "path": str(place.path),
            "found": [{"layout": found.kind, "path": str(found.path)} for found in place.layouts],
        }
        for place in places
    ]
    return {"dataset": name, "searched": searched, "source": f"{layout.kind}, {layout.path}"}


def load_dataset(name: str, data_dir: str | None = None, offline: bool = False) -> Dataset:
    """Load "cifar10" from disk or make "shapes10".

    Never downloads; see `obtain_dataset`.

    Args:
        data_dir: file or folder to read instead of searching. May hold a set of the user's own in class
            folders, WebDataset shards or .npz, which then keeps its own name.
        offline: leaves the download out of the advice when nothing is found.

    Raises:
        UsageError: no such data set.
        DataError: nothing found, or a file is missing, damaged, mislabelled or foreign.
    """
    if _is_built_in(name, data_dir):
        return make_shapes10()
    place, layout = choose(search(data_dir), offline)
    dataset = layout.read()
    if dataset.name != "cifar10" and not place.chosen_by_user:
        raise DataError(
            f"{layout.path}: holds {dataset.name}, not CIFAR-10",
            f"to use it all the same: --data-dir {layout.path}",
        )
    return dataset


def _is_built_in(name: str, data_dir: str | None) -> bool:
    if name not in NAMES:
        raise UsageError(f"no data set is called {name}", f"there are {' and '.join(NAMES)}")
    if name == "shapes10" and data_dir:
        raise UsageError("shapes10 is made on the spot and reads no --data-dir", "leave --data-dir out")
    return name == "shapes10"
