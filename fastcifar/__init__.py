"""Fast, honest training of small image networks on CIFAR-10.

The public names below are imported on first use, so that `import fastcifar` and the command's help stay quick.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "AugmentPolicy": "fastcifar.augment.policy",
    "apply_draws": "fastcifar.augment.reference",
    "build_model": "fastcifar.model.registry",
    "check_constraints": "fastcifar.model.constraints",
    "load_dataset": "fastcifar.dataset.load",
    "receptive_field": "fastcifar.model.receptive_field",
    "resolve": "fastcifar.settings",
    "sample_draws": "fastcifar.augment.draws",
    "summarise": "fastcifar.model.summary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastcifar' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
