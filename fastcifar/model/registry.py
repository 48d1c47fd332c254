"""Networks by name."""

import difflib
from collections.abc import Callable

from torch import nn

from fastcifar.errors import UsageError
from fastcifar.model.c1c2c3c40 import accuracy, speed

MODELS: dict[str, Callable[[int], nn.Module]] = {
    "c1c2c3c40-speed": speed,
    "c1c2c3c40-accuracy": accuracy,
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


def count_parameters(model: nn.Module) -> int:
    """All parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())
