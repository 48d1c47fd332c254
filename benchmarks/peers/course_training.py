"""The course's training loop as its students hand it in: a DataLoader, float32, NCHW, eager, plain SGD."""

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import nn

from fastcifar.loader.contract import Batch


def course_training(
    model: nn.Module, batches: Iterable[Batch], learning_rate: float, weight_decay: float
) -> Iterator[int]:
    """Train on every batch of one epoch; yields the images of each step once its loss has been read.

    Args:
        model: contiguous, on the CPU.
        batches: a DataLoader's, float32 [B, 3, 32, 32] and int64 [B].
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=weight_decay)
    model.train()
    for images, labels in batches:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()  # the progress bar shows it
        yield len(labels)
