"""A few steps of training, and what they took: `python benchmarks/short_training.py KIND IMAGES`.

KIND is a loader of fastcifar's (resident, workers, dali) or "dataloader", torchvision's transforms in a DataLoader.
Images of noise, the speed network at 32 pixels. Printed as JSON: `bytes`, the most that this process had resident and
what its workers hold beside that (pages they do not share with it), and `seconds` from its start to the last step.
"""

import itertools
import json
import multiprocessing
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from noise import noise
from training_step import OPTIMIZER

from fastcifar.augment.policy import AugmentPolicy
from fastcifar.config import RuntimeConfig
from fastcifar.loader.contract import Batch
from fastcifar.loader.resident import ResidentLoader
from fastcifar.loader.workers import WorkersLoader
from fastcifar.model.registry import build_model
from fastcifar.process import started_at
from fastcifar.runtime import choose_runtime
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.step import TrainingStep

BATCH, STEPS, WORKERS = 256, 5, 2


def main(kind: str, count: int) -> None:
    model = build_model("c1c2c3c40-speed").to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = build_optimizer(model, OPTIMIZER, "fused")
    step = TrainingStep(model, optimizer, None, choose_runtime(RuntimeConfig(device="cpu")), label_smoothing=0.1)
    for images, labels in itertools.islice(batches(kind, count), STEPS):
        loss, _ = step(images, labels, OPTIMIZER.learning_rate)
        assert loss.isfinite()
    seconds = time.time() - started_at()
    held = sum(
        _kib(process.pid, "smaps_rollup", "Private_(?:Clean|Dirty)") for process in multiprocessing.active_children()
    )
    # Not getrusage's ru_maxrss, which begins with the peak of the process that started this one.
    print(json.dumps({"bytes": 1024 * (_kib("self", "status", "VmHWM") + held), "seconds": seconds}))


def batches(kind: str, count: int) -> Iterable[Batch]:
    train = noise(count)
    arrays = train.images, train.labels, BATCH
    common: dict[str, Any] = {"policy": AugmentPolicy(), "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    if kind == "dataloader":
        from peers.torchvision_dataloader import torchvision_dataloader

        return torchvision_dataloader(*arrays, **common, workers=WORKERS)
    common |= {"seed": 0, "device": "cpu", "dtype": torch.float32, "shuffle": True, "drop_last": True}
    if kind == "workers":
        return WorkersLoader(*arrays, **common, workers=WORKERS)
    if kind == "dali":
        from fastcifar.loader.dali import DaliLoader

        return DaliLoader(*arrays, **common, threads=torch.get_num_threads())
    return ResidentLoader(*arrays, **common)


def _kib(pid: int | str | None, file: str, field: str) -> int:
    """Of a living process, as proc(5) has it; fields of several lines are summed."""
    text = Path(f"/proc/{pid}/{file}").read_text()
    return sum(int(kib) for kib in re.findall(rf"^{field}: +(\d+)", text.expandtabs(1), re.MULTILINE))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
