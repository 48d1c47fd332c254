"""What was found on this machine, what a run would use of it, why, and how to mend what is missing."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastcifar.augment.requirements import installed_version, require_albumentations, require_dali
from fastcifar.dataset.load import choose, search
from fastcifar.environment import describe_environment
from fastcifar.errors import DeviceError, FastcifarError
from fastcifar.model.separable_shapes import separable_shapes
from fastcifar.paths import cache_dir, runs_dir
from fastcifar.plans import use_measured_plans
from fastcifar.runtime import Runtime, choose_runtime
from fastcifar.settings import resolve
from fastcifar_kernels.backend import Backend, backends
from fastcifar_kernels.depthwise_pointwise import plan

# How to install each, from a checkout.
OPTIONAL_PACKAGES = {
    "onnx": "pip install '.[onnx]'",
    "tensorboard": "pip install '.[tensorboard]'",
    "wandb": "pip install '.[wandb]'",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        topic: what was looked at.
        status: "ok", "note" (works, could be better) or "missing" (a default run cannot do without).
        found: what is there or will be used.
        mend: what to do about it; empty where nothing need be done.
    """

    topic: str
    status: str
    found: str
    mend: str = ""


def examine() -> list[Finding]:
    """Look at everything; never raises for what it finds."""
    environment = describe_environment()
    findings = [
        Finding("python", "ok", f"{environment['python']} ({sys.executable})"),
        Finding("torch", "ok", f"{torch.__version__}, CUDA {torch.version.cuda or 'not built in'}"),
        Finding("cpu", "ok", f"{environment['cpu']}, {environment['cpu_count']} cores"),
        _gpu(environment["gpu"]),
    ]
    findings += _choices()
    findings += [_kernel(backend) for backend in backends()]
    findings += [_compiler(), _data(), _writable("cache", cache_dir()), _writable("runs", runs_dir())]
    findings += [_checked("dali", require_dali), _checked("albumentations", require_albumentations)]
    findings += [_optional(name, install) for name, install in OPTIONAL_PACKAGES.items()]
    return findings


def as_dict(findings: list[Finding]) -> dict[str, Any]:
    """The report for `--json`."""
    return {
        "healthy": all(finding.status != "missing" for finding in findings),
        "findings": [vars(finding) for finding in findings],
        "environment": describe_environment(),
    }


def _gpu(gpu: dict[str, Any] | None) -> Finding:
    if gpu is not None:
        return Finding("gpu", "ok", f"{gpu['name']}, {gpu['memory_mib']} MiB")
    if Path("/proc/driver/nvidia").exists():
        return Finding("gpu", "note", "an NVIDIA driver, but torch cannot use it", "match torch's CUDA to the driver")
    return Finding("gpu", "note", "no NVIDIA GPU", "none is needed: training runs on the CPU")


def _choices() -> list[Finding]:
    """What `fastcifar train --amp --compile` would use here, the environment's settings included."""
    wishes = {"runtime.amp": ("--amp", True), "runtime.compile": ("--compile", True)}
    try:
        runtime = choose_runtime(resolve(flags=wishes).config.runtime)
    except FastcifarError as error:
        return [Finding("settings", "missing", error.what, error.hint)]
    return [
        Finding(name, "note" if choice.disappoints else "ok", choice.used, choice.reason)
        for name, choice in runtime.choices.items()
    ] + _plans(runtime)


def _plans(runtime: Runtime) -> list[Finding]:
    """On a GPU: what serves each depthwise-separable layer of the networks at 32 pixels."""
    if runtime.device.type != "cuda":
        return []
    topic, dtype = "separable layer", runtime.autocast_dtype or torch.float32
    warning = use_measured_plans(runtime.device)
    findings = [Finding(topic, "note", warning, "`fastcifar tune` writes a new table")] if warning else []
    for config in (resolve(recipe).config for recipe in ("speed", "accuracy")):
        for shape in separable_shapes(config.model.name, config.training.batch_size, 32):
            chosen = plan.choose(shape, dtype, runtime.device)
            findings.append(Finding(topic, "ok", f"{shape.key}: {'fused' if chosen.fused else 'plain'}", chosen.reason))
    return findings


def _kernel(backend: Backend) -> Finding:
    """What serves a fused operator's tensors on one type of device."""
    topic = f"{backend.operator} on {backend.device}"
    found = f"{backend.title}: {backend.reason}"
    if backend.used != "none":
        return Finding(topic, "ok", found)
    mend = {"cpu": "install g++, then `pip install .` again"}.get(backend.device, "")
    return Finding(topic, "note", found, mend)


def _compiler() -> Finding:
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found:
        return Finding("c compiler", "ok", found)
    return Finding("c compiler", "note", "none", "torch.compile needs one on a GPU: install gcc")


def _data() -> Finding:
    try:
        place, layout = choose(search())
        return Finding("cifar-10", "ok", f"{layout.kind}, {layout.path} (from {place.origin})")
    except FastcifarError as error:
        return Finding("cifar-10", "missing", error.what, error.hint)


def _writable(topic: str, folder: Path) -> Finding:
    try:
        existing = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
        probe = existing / ".fastcifar-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return Finding(topic, "missing", f"{folder}: {error.strerror}", f"set FASTCIFAR_{topic.upper()}_DIR")
    free = shutil.disk_usage(existing).free / 1e9
    return Finding(topic, "ok", f"{folder}, {free:.0f} GB free")


def _checked(topic: str, require: Callable[[], str]) -> Finding:
    """A package that not every version of will do."""
    try:
        return Finding(topic, "ok", require())
    except DeviceError as error:
        return Finding(topic, "note", f"{error.what} (optional)", error.hint)


def _optional(name: str, install: str) -> Finding:
    version = installed_version(name)
    if version is None:
        return Finding(name, "note", "not installed (optional)", install)
    return Finding(name, "ok", version)
