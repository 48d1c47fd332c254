"""A short training that says what memory it took: `python benchmarks/training_memory.py resident|dataloader`.

50,000 images of noise, the speed network at 32 pixels, a few steps. Printed: bytes, the most that this process had
resident, and what its workers hold beside that (pages they do not share with it).
"""

import itertools
import multiprocessing
import re
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.torchvision_dataloader import torchvision_dataloader
from training_step import OPTIMIZER

from fastcifar.augment.policy import AugmentPolicy
from fastcifar.config import RuntimeConfig
from fastcifar.loader.contract import Batch
from fastcifar.loader.resident import ResidentLoader
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.step import TrainingStep

IMAGES, BATCH, STEPS = 50_000, 256, 5


def main(kind: str) -> None:
    model = build_model("c1c2c3c40-speed").to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = build_optimizer(model, OPTIMIZER, "fused")
    step = TrainingStep(model, optimizer, None, choose_runtime(RuntimeConfig(device="cpu")), label_smoothing=0.1)
    for images, labels in itertools.islice(batches(kind), STEPS):
        loss, _ = step(images, labels, OPTIMIZER.learning_rate)
        assert loss.isfinite()
        held = sum(unshared_bytes(process.pid) for process in multiprocessing.active_children())
    print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + held)


def batches(kind: str) -> Iterable[Batch]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8)
    labels = generator.integers(0, 10, IMAGES)
    common: dict[str, Any] = {"policy": AugmentPolicy(), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    if kind == "dataloader":
        return torchvision_dataloader(images, labels, BATCH, **common, workers=2)
    own: dict[str, Any] = {"seed": 0, "device": "cpu", "dtype": torch.float32, "shuffle": True, "drop_last": True}
    return ResidentLoader(images, labels, BATCH, **common, **own)


def unshared_bytes(pid: int | None) -> int:
    """Of a living process, as proc(5) has it."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(kib) for kib in re.findall(r"^Private_(?:Clean|Dirty): +(\d+)", text, re.MULTILINE))


if __name__ == "__main__":
    main(sys.argv[1])
