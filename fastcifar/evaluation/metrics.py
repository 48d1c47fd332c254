"""Figures made from logits and labels."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent."""
    return 100.0 * (logits.argmax(dim=1) == labels).sum().item() / len(labels)


def classification_summary(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy, loss, per-class accuracy, confusion matrix and calibration error, as plain values for JSON.

    Args:
        logits: [N, C] float32.
        labels: [N] int64.
        classes: C names.

    Returns:
        accuracy: percent.
        loss: mean cross-entropy in nats, without label smoothing.
        per_class_accuracy: class name -> percent of that class's images; None for a class without images.
        confusion_matrix: counts, [true class][predicted class].
        calibration_error: percent.
    """
    count = len(classes)
    pairs = labels * count + logits.argmax(dim=1)
    confusion = torch.bincount(pairs, minlength=count * count).reshape(count, count)
    totals = confusion.sum(dim=1)
    per_class = [100.0 * int(confusion[c, c]) / int(totals[c]) if totals[c] else None for c in range(count)]
    return {
        "images": len(labels),
        "accuracy": accuracy(logits, labels),
        "loss": F.cross_entropy(logits, labels).item(),
        "per_class_accuracy": dict(zip(classes, per_class, strict=True)),
        "confusion_matrix": confusion.tolist(),
        "calibration_error": calibration_error(logits, labels),
    }


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error in percent: |accuracy - confidence| by confidence bin, weighted by its images.

    Bins are of equal width and open on the left, as in Guo et al. 2017 (arXiv 1706.04599).
    """
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    gap = (predicted == labels).double() - confidence
    bin_of = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    return 100.0 * torch.zeros(bins, dtype=torch.float64).scatter_add(0, bin_of, gap).abs().sum().item() / len(labels)
