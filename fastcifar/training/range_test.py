"""A learning-rate range test: the recipe's network trained for a few steps, each at a higher rate than the last."""

import itertools
from collections.abc import Callable, Iterator

import torch

from fastcifar.loader.choose import training_loader
from fastcifar.loader.contract import Batch, Loader
from fastcifar.runtime import prepare
from fastcifar.training.material import Material
from fastcifar.training.network import build_network, memory_shortage_named
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.range_curve import Curve, record_curve
from fastcifar.training.step import TrainingStep


def range_test(
    material: Material, rates: list[float], on_step: Callable[[int, float, float], None] | None = None
) -> Curve:
    """Train one network from the run's seed, with the recipe's step and the images of its first epochs' size.

    Nothing is evaluated and nothing written; the weights are not averaged, since that does not lead back into training.

    Args:
        rates: one for each step, from `growing_rates`; biases and batch-norm get them times `optimizer.bias_lr_scale`.
        on_step: see `record_curve`.

    Raises:
        CheckFailedError: the first loss is not finite.
        DeviceError: a batch needs more memory than there is.
    """
    config, runtime = material.config, material.runtime
    prepare(runtime, config.runtime.deterministic)
    with memory_shortage_named():
        model = build_network(material)
        model.to(runtime.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        kind = material.loader_choice.kind
        loader = training_loader(kind, config, runtime, material.dataset.train, material.statistics)
        optimizer = build_optimizer(model, config.optimizer, runtime.choices["optimizer"].used)
        step = TrainingStep(model, optimizer, None, runtime, config.training.label_smoothing)
        batches = _batches(loader, config.schedule.image_size(0))
        # Each loss waits for the device: whether to go on depends on it, and the steps are few.
        losses = (step(*batch, rate)[0].item() for rate, batch in zip(rates, batches, strict=False))
        return record_curve(rates, losses, on_step)


def _batches(loader: Loader, image_size: int) -> Iterator[Batch]:
    """Of one epoch after another, without end."""
    for epoch in itertools.count():
        loader.set_epoch(epoch, image_size)
        yield from loader
