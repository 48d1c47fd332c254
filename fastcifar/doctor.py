"""What was found on this machine, what a run would use of it, why, and how to mend what is missing."""

import importlib.metadata
import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastcifar.config import resolve
from fastcifar.dataset.load import choose, search
from fastcifar.environment import describe_environment
from fastcifar.errors import FastcifarError
from fastcifar.paths import cache_dir, runs_dir
from fastcifar.runtime import choose_runtime

# How to install each, from a checkout.
OPTIONAL_PACKAGES = {
    "nvidia.dali": "pip install '.[dali]'",
    "albumentations": "pip install '.[parity]'",
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
    findings += [_compiler(), _data(), _writable("cache", cache_dir()), _writable("runs", runs_dir())]
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
    ]


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


def _optional(name: str, install: str) -> Finding:
    try:
        present = importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        present = False
    if not present:
        return Finding(name, "note", "not installed (optional)", install)
    package = {"nvidia.dali": "nvidia-dali-cuda130"}.get(name, name)
    try:
        return Finding(name, "ok", importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "ok", "installed")
