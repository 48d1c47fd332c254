"""The network of a run as it stands before the first step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from fastcifar.errors import DeviceError
from fastcifar.model.layers import Stem
from fastcifar.model.registry import build_model
from fastcifar.training.material import Material

STEM_IMAGES = 1000  # enough for a 27 x 27 covariance: each image gives 900 patches


def build_network(material: Material) -> nn.Module:
    """The recipe's network on the CPU, initialised from the run's seed, its stem whitened where that is set.

    Seeds torch's global generator, from which dropout goes on to draw.
    """
    config = material.config
    torch.manual_seed(config.training.seed)
    model = build_model(config.model.name, len(material.dataset.classes))
    if config.model.whiten_stem:
        _whiten_stem(model, material)
    return model


def _whiten_stem(model: nn.Module, material: Material) -> None:
    stem = getattr(model, "stem", None)
    if not isinstance(stem, Stem):
        return
    # Evenly spaced: class folders are read class by class, and the first thousand images are all aeroplanes there.
    spaced = material.dataset.train.images[:: max(1, len(material.dataset.train) // STEM_IMAGES)][:STEM_IMAGES]
    images = torch.from_numpy(spaced).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(material.statistics.mean), torch.tensor(material.statistics.std)
    stem.whiten((images - mean[:, None, None]) / std[:, None, None])


@contextmanager
def memory_shortage_named() -> Iterator[None]:
    """Turn a batch that does not fit into memory into a DeviceError that says what to lower."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; the CPU allocator has none of its own
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise DeviceError("the batch needs more memory than there is", "use a smaller --batch-size") from error
