"""Training steps of a recipe's network, ours and a plain PyTorch script's, which begin alike and do the same."""

import dataclasses
from collections.abc import Callable
from functools import partial

import torch
from peers import plain_network
from peers.tuned_training import TunedStep
from record import Work
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fastcifar.config import OptimizerConfig, RuntimeConfig
from fastcifar.model.layers import Stem
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.captured import Capture, captured_optimizer, left_as_it_was, settings_of_run
from fastcifar.training.optimizer import build_optimizer
from fastcifar.training.step import TrainingStep

OPTIMIZER = OptimizerConfig(learning_rate=0.01, bias_lr_scale=1.0)
LABEL_SMOOTHING, AVERAGE = 0.1, 0.98
CHECKED_STEPS = 3

Step = Callable[[], Tensor]
"""Trains on the same batch again; returns the loss."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """What builds the same network twice: fastcifar's, and torch's own modules with weights of the same names."""

    ours: Callable[[], nn.Module]
    plain: Callable[[], nn.Module]


def pair(model_name: str) -> Pair:
    """Of a registered network."""
    return Pair(partial(build_model, model_name), plain_network.NETWORKS[model_name])


def our_step(
    networks: Pair,
    size: int,
    batch_size: int,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    compiled: bool = False,
    plain_network: bool = False,
    capture: Capture | None = None,
) -> Step:
    """fastcifar's own, with its stem frozen as in a run.

    Args:
        dtype: of autocast, None for float32.
        plain_network: of torch's own modules; all else is ours.
        capture: the step is a graph, as in a run on a GPU; the loss it returns is overwritten by the next.
    """
    network = _plain(networks) if plain_network else _ours(networks)
    network = network.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if compiled:
        network.compile(dynamic=False)
    average = WeightAverage(network, AVERAGE)
    runtime = dataclasses.replace(choose_runtime(RuntimeConfig(device=device)), autocast_dtype=dtype)
    step = TrainingStep(
        network,
        build_optimizer(network, OPTIMIZER, "fused", average),
        average,
        runtime,
        label_smoothing=LABEL_SMOOTHING,
    )
    images, labels = _batch(size, batch_size, device)
    if capture:
        return _captured(step, images, labels, capture)
    return lambda: step(images, labels, OPTIMIZER.learning_rate)[0]


def plain_step(networks: Pair, size: int, batch_size: int, device: str = "cpu") -> Step:
    """The same of torch's own parts, see `peers/tuned_training.py`."""
    step = TunedStep(
        _plain(networks).to(device),
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
    return lambda: torch.stack([step().clone() for _ in range(CHECKED_STEPS)])


def step_work(networks: Pair, size: int, images: int, dtype: torch.dtype = torch.float32) -> Work:
    """What so many images cost at least, forward and backward; dtype: of the maps.

    Operations are the multiply-adds of convolutions and matrix products, each as two. A layer's backward pass is two
    products of the size of its forward pass; the frozen stem has none, and the layer behind it only that of its
    weights. (torch's counter takes those of a depthwise convolution for a dense one's.) What a convolution multiplies
    outside the map counts too, which on maps of 4 x 4 and smaller is a good part.

    Bytes are those of the maps between layers: written, read by the next layer and read again for the gradient of its
    weights, and the map's gradient written and read, if it has one.
    """
    forward, values = _forward_pass(networks, size)
    stem, first, *_ = (name for name in forward if name.endswith(("conv", "depthwise")))
    flops = 3 * forward["Global"] - 2 * forward[stem] - forward[first]
    moved = 5 * sum(values.values()) - 2 * values["stem"]
    return Work("images/s", images, bytes_moved=images * moved * dtype.itemsize, flops=images * flops)


def evaluation_work(networks: Pair, size: int, images: int, dtype: torch.dtype = torch.float32) -> Work:
    """The same of the forward pass alone: each map is written and read by the next layer."""
    forward, values = _forward_pass(networks, size)
    moved = 2 * sum(values.values()) * dtype.itemsize
    return Work("images/s", images, bytes_moved=images * moved, flops=images * forward["Global"])


def _forward_pass(networks: Pair, size: int) -> tuple[dict[str, int], dict[str, int]]:
    """Of one image: floating-point operations by module ("Global": all), and values in the maps between layers."""
    model = networks.plain().eval()
    values: dict[str, int] = {}

    def count(name: str, result: Tensor) -> None:
        values[name] = result.numel()

    for name, module in model.named_modules():
        if name == "stem" or isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda _, __, result, name=name: count(name, result))
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(torch.zeros(1, 3, size, size))
    return {name: sum(operators.values()) for name, operators in counter.get_flop_counts().items()}, values


def _ours(networks: Pair) -> nn.Module:
    """The weights of seed 0, the stem frozen."""
    torch.manual_seed(0)
    model = networks.ours()
    if isinstance(model.stem, Stem):
        model.stem.freeze()
    return model


def _plain(networks: Pair) -> nn.Module:
    """The same of torch's own modules."""
    model = networks.plain()
    model.load_state_dict(_ours(networks).state_dict())
    model.get_submodule("stem").requires_grad_(False)
    return model


def _captured(step: TrainingStep, images: Tensor, labels: Tensor, capture: Capture) -> Step:
    """The share of the weights in their average stays that of the first step."""
    optimizer = captured_optimizer(step)
    loss = torch.zeros((), device=images.device)
    settings = settings_of_run(optimizer, step.average, [OPTIMIZER.learning_rate], epochs=1)[0, 0]
    optimizer.read_settings_from(settings.to(images.device))
    with left_as_it_was(step):
        replay = capture(lambda: loss.copy_(step.train(images, labels)[0]))

    def replayed() -> Tensor:
        replay()
        return loss

    return replayed


def _batch(size: int, batch_size: int, device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch_size, 3, size, size, generator=generator).to(device)
    labels = torch.randint(0, 10, (batch_size,), generator=generator).to(device)
    return images.contiguous(memory_format=torch.channels_last), labels
