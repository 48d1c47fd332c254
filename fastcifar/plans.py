"""Where `fastcifar tune` keeps what it measured on a GPU, and how a run comes to use it."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fastcifar.atomic import written_whole
from fastcifar.paths import cache_dir
from fastcifar_kernels.depthwise_pointwise import plan


def plans_file(gpu: str) -> Path:
    """The table of the GPU of this name."""
    return cache_dir() / "kernels" / f"{re.sub('[^a-z0-9]+', '-', gpu.lower()).strip('-')}.json"


def use_measured_plans(device: torch.device) -> str:
    """Let the fused layers decide by what was measured on this GPU; "", or why its table is left aside."""
    gpu = torch.cuda.get_device_name(device)
    try:
        plan.load(plans_file(gpu), gpu)
    except (ValueError, OSError) as error:
        return f"{error}; the plans are modelled instead"
    return ""


def save_plans(gpu: str, plans: Mapping[str, Any]) -> Path:
    """Write lines of `plan.entry` by their `plan.key`, beside those that the GPU's table has for other shapes.

    Raises:
        UsageError: the cache cannot be written to.
    """
    file = plans_file(gpu)
    with written_whole(file) as partial:
        table = {"gpu": gpu, "plans": _plans_in(file, gpu) | dict(plans)}
        partial.write_text(json.dumps(table, indent=2, sort_keys=True) + "\n")
    return file


def _plans_in(file: Path, gpu: str) -> dict[str, Any]:
    """The lines of a table; none where it is not there, another GPU's or broken, and so of no use to a run either."""
    try:
        return json.loads(file.read_text())["plans"] if plan.load(file, gpu) else {}
    except (ValueError, OSError):
        return {}
