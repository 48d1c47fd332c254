"""The machine and the versions behind a figure."""

import importlib.metadata
import os
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from fastcifar import __version__


def describe_environment(device: torch.device | None = None) -> dict[str, Any]:
    """Versions and hardware, as far as they can change a figure; of the GPU that `device` names, or the first."""
    packages = ("torch", "torchvision", "triton", "numpy")
    versions = {name: _version(name) for name in packages}
    gpu = None
    if torch.cuda.is_available() and (device is None or device.type == "cuda"):
        properties = torch.cuda.get_device_properties(device.index or 0 if device is not None else 0)
        gpu = {"name": properties.name, "memory_mib": properties.total_memory >> 20, "cuda": torch.version.cuda}
    return {
        "fastcifar": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "torch_threads": torch.get_num_threads(),
        "gpu": gpu,
        "versions": versions,
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def cpu_name() -> str:
    """The processor's name as the kernel reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
