"""Networks by name."""

import difflib
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import nn

from fastcifar.errors import UsageError
from fastcifar.model import assignments
from fastcifar.model.c1c2c3c40 import accuracy, speed

MODELS: dict[str, Callable[[int], nn.Module]] = {
    "c1c2c3c40-speed": speed,
    "c1c2c3c40-accuracy": accuracy,
    "assignment-151k": assignments.assignment_151k,
    "assignment-162k": assignments.assignment_162k,
    "assignment-671k": assignments.assignment_671k,
    "assignment-98k": assignments.assignment_98k,
    "assignment-98k-group": partial(assignments.assignment_98k, normalisation="group"),
    "assignment-98k-layer": partial(assignments.assignment_98k, normalisation="layer"),
    "assignment-170k": assignments.assignment_170k,
}


def build_model(name: str, classes: int = 10) -> nn.Module:
    """A freshly initialised network that maps [B, 3, 32, 32] to logits [B, classes].

    Raises:
        UsageError: no network has that name.
    """
    check_model_name(name)
    return MODELS[name](classes)


def check_model_name(name: str) -> None:
    """Raises UsageError where no network has that name."""
    if name not in MODELS:
        close = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(MODELS)}"
        raise UsageError(f"model.name = {name!r}: no such network", hint)


def check_image_sizes(name: str, sizes: Iterable[int]) -> None:
    """Raises UsageError where the network takes no images of one of the sizes, in pixels a side."""
    model = build_model(name).eval()
    for size in sorted(set(sizes)):
        try:
            with torch.inference_mode():
                model(torch.zeros(1, 3, size, size))
        except RuntimeError as error:  # a kernel larger than its map
            raise UsageError(
                f"{name} takes no images of {size} pixels",
                'train at full size with --set "schedule.image_sizes=[[0.0, 32]]"',
            ) from error


def count_parameters(model: nn.Module) -> int:
    """All parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())
