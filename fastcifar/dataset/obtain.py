"""A data set for training: loaded from where it lies, downloaded first where it lies nowhere."""

from collections.abc import Callable

from fastcifar.dataset.download import download_cifar10
from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.load import load_dataset, search


def obtain_dataset(
    name: str,
    data_dir: str | None,
    offline: bool,
    announce: Callable[[str], None],
    progress: bool = False,
) -> Dataset:
    """`load_dataset`, after fetching CIFAR-10 into the cache if no place has it.

    A place that the user named is never filled, and with `offline` the network is never touched.

    Args:
        announce: receives one line before a download starts.
        progress: show a bar on stderr meanwhile.

    Raises:
        DataError: as `load_dataset`, and where no mirror delivers.
    """
    if name == "cifar10" and not offline:
        places = search(data_dir)
        if not any(place.layouts or place.chosen_by_user for place in places):
            announce(f"CIFAR-10 is not in {' or '.join(str(place.path) for place in places)}: downloading 170 MB")
            download_cifar10(progress=progress)
    return load_dataset(name, data_dir, offline)
