"""SGD with Nesterov momentum and its two parameter groups."""

import torch
from torch import nn

from fastcifar.config import OptimizerConfig


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.SGD:
    """SGD over the trainable parameters of `model`.

    Matrices and convolution kernels decay; biases and batch-norm parameters do not, and their learning rate is
    `bias_lr_scale` times as high. Each group carries its factor as `lr_scale` for `set_learning_rate`.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
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
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.momentum > 0,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group `learning_rate` times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]
