"""A run folder as training leaves it, without the training: random weights and batch-norm statistics of its own."""

from pathlib import Path

import torch
from torch import nn

from fastcifar.dataset.cifar10 import CLASSES
from fastcifar.model.registry import build_model
from fastcifar.settings import resolve
from fastcifar.training.checkpoint import save_weights
from fastcifar.training.run_log import RunLog

MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]


def random_model(name: str, classes: int = 10, seed: int = 0) -> nn.Module:
    """In evaluation mode, with statistics, scales and shifts that a forgotten batch-norm would betray."""
    torch.manual_seed(seed)
    model = build_model(name, classes).eval().requires_grad_(False)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.3, 1.5)
            layer.weight.uniform_(0.5, 1.5)
            layer.bias.normal_(0, 0.3)
        elif isinstance(layer, nn.Linear):
            layer.weight.mul_(20)  # logits as far apart as a trained network's
    return model


def make_run(folder: Path, model: nn.Module | None = None, name: str = "c1c2c3c40-speed") -> Path:
    """Write the folder; best and last weights are the same."""
    folder.mkdir(parents=True, exist_ok=True)
    RunLog(folder).write_config(resolve("speed", environment={}).to_dict())
    metadata = {"model": name, "dataset": "cifar10", "classes": list(CLASSES), "mean": MEAN, "std": STD}
    for weights in ("last", "best"):
        save_weights(folder / f"{weights}.safetensors", model or random_model(name), metadata)
    return folder
