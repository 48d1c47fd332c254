"""Training steps of a recipe's network, ours and a plain PyTorch script's, which begin alike and do the same."""

import dataclasses
from collections.abc import Callable

import torch
from peers.plain_network import NETWORKS
from peers.tuned_training import TunedStep
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fastcifar.config import OptimizerConfig, RuntimeConfig
from fastcifar.model.layers import Stem
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.step import TrainingStep

OPTIMIZER = OptimizerConfig(learning_rate=0.01, bias_lr_scale=1.0)
LABEL_SMOOTHING, AVERAGE = 0.1, 0.98
CHECKED_STEPS = 3

Step = Callable[[], Tensor]
"""Trains on the same batch again; returns the loss."""


def our_step(
    model_name: str,
    size: int,
    batch_size: int,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    compiled: bool = False,
) -> Step:
    """fastcifar's own, with its stem frozen as in a run; dtype: of autocast, None for float32."""
    model = _seeded(model_name).to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if compiled:
        model.compile(dynamic=False)
    average = WeightAverage(model, AVERAGE)
    runtime = dataclasses.replace(choose_runtime(RuntimeConfig(device=device)), autocast_dtype=dtype)
    step = TrainingStep(
        model, build_optimizer(model, OPTIMIZER, "fused", average), average, runtime, label_smoothing=LABEL_SMOOTHING
    )
    images, labels = _batch(size, batch_size, device)
    return lambda: step(images, labels, OPTIMIZER.learning_rate)[0]


def plain_step(model_name: str, size: int, batch_size: int, device: str = "cpu") -> Step:
    """The same of torch's own parts, see `peers/tuned_training.py`."""
    model = NETWORKS[model_name]()
    model.load_state_dict(_seeded(model_name).state_dict())
    model.stem.requires_grad_(False)
    step = TunedStep(
        model.to(device),
        OPTIMIZER.learning_rate,
        momentum=OPTIMIZER.momentum,
        weight_decay=OPTIMIZER.weight_decay,
        label_smoothing=LABEL_SMOOTHING,
        average=AVERAGE,
    )
    images, labels = _batch(size, batch_size, device)
    return lambda: step(images, labels)


def losses(step: Step) -> Callable[[], Tensor]:
    """For a check: the losses of a few steps tell whether the updates between them were the same."""
    return lambda: torch.stack([step() for _ in range(CHECKED_STEPS)])


def step_flops(model_name: str, size: int) -> int:
    """Of an image, forward and backward: the multiply-adds of convolutions and matrix products, each as two.

    A layer's backward pass is two products of the size of its forward pass; the frozen stem has none, and the layer
    behind it only that of its weights. (torch's counter takes those of a depthwise convolution for a dense one's.)
    """
    model = NETWORKS[model_name]().eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, size, size))
    forward = {name: sum(operators.values()) for name, operators in counter.get_flop_counts().items()}
    stem, first, *_ = (f"Network.{name}" for name, module in model.named_modules() if isinstance(module, nn.Conv2d))
    return 3 * forward["Global"] - 2 * forward[stem] - forward[first]


def _seeded(model_name: str) -> nn.Module:
    torch.manual_seed(0)
    model = build_model(model_name)
    if isinstance(model.stem, Stem):
        model.stem.freeze()
    return model


def _batch(size: int, batch_size: int, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch_size, 3, size, size, generator=generator).to(device)
    labels = torch.randint(0, 10, (batch_size,), generator=generator).to(device)
    return images.contiguous(memory_format=torch.channels_last), labels
