"""A plain PyTorch training loop, tuned: channels_last, the fused SGD, and torch's own average of the weights.

On a GPU also bf16 autocast and torch.compile; on a CPU both cost more than they gain (`bench_training_step.py`).
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fastcifar.loader.contract import Batch


class TunedStep:
    """Forward, loss, backward, update and weight average; called with images [B, 3, H, W] and labels [B].

    Args:
        average: decay of the weights' moving average; 0 for none.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        *,
        momentum: float,
        weight_decay: float,
        label_smoothing: float = 0.0,
        average: float = 0.0,
    ) -> None:
        self.device = next(model.parameters()).device.type
        self.model: Any = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if self.device == "cuda":
            self.model.compile(dynamic=False)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        groups = [
            {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
            {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, learning_rate, momentum, nesterov=momentum > 0, fused=True)
        self.label_smoothing = label_smoothing
        self.average = None
        if average:
            self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(average), use_buffers=True)

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean loss before the update, a scalar on the device."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.model)
        return loss.detach()


def tuned_training(step: TunedStep, batches: Iterable[Batch]) -> Iterator[int]:
    """Train on every batch of one epoch; yields the images of each step."""
    step.model.train()
    for images, labels in batches:
        step(images, labels)
        yield len(labels)
