"""The machine behind a figure: what it is, what is installed, and how busy it was."""

import subprocess
from pathlib import Path
from typing import Any

from fastcifar.allocator import allocator_state
from fastcifar.augment.requirements import installed_version
from fastcifar.environment import describe_environment
from fastcifar.waiting import waiting_state

PACKAGES = {
    "nvidia-dali-cuda130": "dali",
    "nvidia-dali-cuda120": "dali",
    "albumentations": "albumentations",
    "opencv-python-headless": "opencv",
    "kornia": "kornia",
    "pytest-benchmark": "pytest_benchmark",
}
"""By distribution, what a figure may depend on besides torch and its like."""
GPU_FIELDS = ("name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.limit")
"""As `nvidia-smi --help-query-gpu` names them."""


def describe_machine(load_average: tuple[float, float, float]) -> dict[str, Any]:
    """As far as it can change a figure; load_average: over 1, 5 and 15 minutes, before the first benchmark."""
    found = describe_environment()
    installed = {name: installed_version(package) for package, name in PACKAGES.items() if installed_version(package)}
    return {
        **found,
        "versions": {**found["versions"], **installed},
        "allocator": allocator_state()[0],
        "waiting": waiting_state()[0],
        "nvidia_smi": nvidia_smi(),
        "commit": commit(),
        "load_average": [round(load, 2) for load in load_average],
    }


def nvidia_smi() -> list[dict[str, str]]:
    """Name, driver, clocks and power limit of every GPU, with their units; empty where there is no nvidia-smi."""
    query = ["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader"]
    lines = _output(query).splitlines()
    return [dict(zip(GPU_FIELDS, map(str.strip, line.split(",")), strict=True)) for line in lines]


def commit() -> str:
    """Of the code that is measured, "-dirty" behind it where files differ from it; empty outside a repository."""
    return _output(["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]).strip()


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
