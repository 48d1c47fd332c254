"""The optimizer of a run: SGD with Nesterov momentum in two parameter groups, and Muon for a third where it is set."""

from typing import Any

import torch
from torch import nn

from fastcifar.config import OptimizerConfig
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.muon import Muon, MuonAndSGD, mixes_channels
from fastcifar_kernels.sgd_ema.optimizer import SGDEMA


def build_optimizer(
    model: nn.Module, config: OptimizerConfig, backend: str = "torch", average: WeightAverage | None = None
) -> torch.optim.Optimizer | MuonAndSGD:
    """SGD over the trainable parameters of `model`, but for those that `config.muon_lr` leaves to Muon.

    Matrices and convolution kernels decay; biases and batch-norm parameters do not, and their learning rate is
    `bias_lr_scale` times as high. Each group carries its factor as `lr_scale` for `set_learning_rate`.

    Args:
        backend: "torch", "fused" or "apex", as `choose_optimizer` found that it can be had.
        average: of `model`; moved in the same launch as the parameters where the backend is "fused".
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if config.muon_lr:
        mixing = [parameter for parameter in trainable if mixes_channels(parameter)]
        others = [parameter for parameter in trainable if not mixes_channels(parameter)]
        scale = config.muon_lr / config.learning_rate  # one schedule serves both
        muon = Muon([{"params": mixing, "lr_scale": scale}], config.muon_lr)
        return MuonAndSGD(muon, _build_sgd(others, config, backend, average))
    return _build_sgd(trainable, config, backend, average)


def _build_sgd(
    trainable: list[nn.Parameter], config: OptimizerConfig, backend: str, average: WeightAverage | None
) -> torch.optim.Optimizer:
    groups = [
        {
            "params": [parameter for parameter in trainable if parameter.ndim > 1],
            "weight_decay": config.weight_decay,
            "lr_scale": 1.0,
        },
        {
            "params": [parameter for parameter in trainable if parameter.ndim <= 1],
            "weight_decay": 0.0,
            "lr_scale": config.bias_lr_scale,
        },
    ]
    groups = [group for group in groups if group["params"]]
    settings: dict[str, Any] = {
        "lr": config.learning_rate,
        "momentum": config.momentum,
        "nesterov": config.momentum > 0,
    }
    if backend == "fused":
        return SGDEMA(groups, **settings, averages=average.pairs() if average else ())
    if backend == "apex":
        from apex.optimizers import FusedSGD  # pyright: ignore[reportMissingImports]

        return FusedSGD(groups, **settings)
    return torch.optim.SGD(groups, **settings, fused=True)


def set_learning_rate(optimizer: torch.optim.Optimizer | MuonAndSGD, learning_rate: float) -> None:
    """Give every group `learning_rate` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]
