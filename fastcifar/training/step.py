"""One optimisation step, without a word to the host."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastcifar.runtime import Runtime
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.muon import MuonAndSGD, averaging_part
from fastcifar.training.optimizer import set_learning_rate


class TrainingStep:
    """Forward, loss, backward, update and weight average.

    The returned tensors stay on the device; nothing here waits for it.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | MuonAndSGD,
        average: WeightAverage | None,
        runtime: Runtime,
        label_smoothing: float,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.average = average
        self.runtime = runtime
        self.label_smoothing = label_smoothing
        self.scaler = torch.amp.GradScaler(runtime.device.type) if runtime.uses_grad_scaler else None

    def __call__(self, images: Tensor, labels: Tensor, learning_rate: float) -> tuple[Tensor, Tensor]:
        """Train on a batch.

        Args:
            images: [B, 3, H, W], channels_last, on the device.
            labels: [B] int64, on the device.

        Returns:
            loss: mean cross-entropy in nats (label smoothing included), a float32 scalar.
            correct: how many images were classified right, an int64 scalar.
        """
        set_learning_rate(self.optimizer, learning_rate)
        averaging = averaging_part(self.optimizer)
        if self.average is not None and averaging is not None:
            averaging.share = self.average.next_share()
        return self.train(images, labels)

    def train(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The same with the optimizer's settings as they are: all of the step that a CUDA graph can capture."""
        loss, correct = self.forward_backward(images, labels)
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)  # pyright: ignore[reportArgumentType]
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None and averaging_part(self.optimizer) is None:
            self.average.update()
        return loss, correct

    def forward_backward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss, count of correct predictions, and gradients left in the parameters."""
        with self.runtime.autocast():
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()
        with torch.no_grad():
            correct = (logits.argmax(dim=1) == labels).sum()
        return loss.detach(), correct
