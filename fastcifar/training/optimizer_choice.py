"""Whose SGD updates the weights: our one launch, torch's, or NVIDIA apex's, and why."""

import importlib
import importlib.util
from dataclasses import replace
from pathlib import Path

import torch

from fastcifar.config import OptimizerConfig
from fastcifar.runtime import Choice, Runtime
from fastcifar_kernels.sgd_ema import BACKENDS

NVIDIA_APEX = "https://github.com/NVIDIA/apex"


def with_optimizer(runtime: Runtime, config: OptimizerConfig) -> Runtime:
    """The runtime with the choice "optimizer": "fused", "torch" or "apex"; it stands for the operator's own entry."""
    choice = choose_optimizer(config.backend, runtime.device, runtime.uses_grad_scaler)
    others = {name: other for name, other in runtime.choices.items() if name != "sgd_ema"}
    return replace(runtime, choices=others | {"optimizer": choice})


def choose_optimizer(requested: str, device: torch.device, uses_grad_scaler: bool) -> Choice:
    """Resolve `optimizer.backend`; "auto" is fused where its library serves the device."""
    if requested == "torch":
        return Choice("torch", "torch", "asked for")
    hindrance = _why_not_fused(device, uses_grad_scaler)
    otherwise = "torch" if hindrance else "fused"
    if requested == "apex":
        missing = why_not_apex(device)
        return Choice("apex", otherwise, missing, disappoints=True) if missing else Choice("apex", "apex", "asked for")
    if hindrance:
        return Choice(requested, "torch", hindrance, disappoints=requested == "fused")
    reason = "asked for" if requested == "fused" else "one launch updates all parameters and averages"
    return Choice(requested, "fused", f"{reason} ({BACKENDS[device.type].used})")


def _why_not_fused(device: torch.device, uses_grad_scaler: bool) -> str:
    """ "" where nothing is against it."""
    backend = BACKENDS.get(device.type)
    if backend is None or backend.used == "none":
        return f"fused SGD does not serve {device.type}: {backend.reason if backend else 'no kernel'}"
    if uses_grad_scaler:
        return "where the gradient scaler skips a step, the averages must move all the same"
    return ""


def why_not_apex(device: torch.device) -> str:
    """What keeps NVIDIA apex's FusedSGD from being used; "" where nothing does.

    The package index has another package of the name, for the Pyramid web framework. It is told apart by its files:
    importing it runs code of its own, which fails in ways that do not speak of apex.
    """
    spec = importlib.util.find_spec("apex")
    if spec is None:
        return f"NVIDIA apex is not installed; build it from {NVIDIA_APEX}"
    if not any((Path(folder) / "optimizers").is_dir() for folder in spec.submodule_search_locations or ()):
        return (
            "the apex that is installed is not NVIDIA's but an unrelated package of the same name; "
            f"`pip uninstall apex`, then build NVIDIA's from {NVIDIA_APEX}"
        )
    try:
        importlib.import_module("apex.optimizers").FusedSGD  # noqa: B018 (whether it is there)
        importlib.import_module("amp_C")  # what FusedSGD runs on
    except Exception as error:
        # An extension built for another torch fails at import in many ways.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return f"NVIDIA apex is installed but its FusedSGD cannot be used: {reason}; rebuild it with --cuda_ext"
    return "" if device.type == "cuda" else "apex's FusedSGD runs on CUDA devices only"
