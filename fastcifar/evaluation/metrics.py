"""Figures made from logits and labels."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in percent."""
    return 100.0 * (logits.argmax(dim=1) == labels).sum().item() / len(labels)


def summarize(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> dict[str, Any]:
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
        calibration_error: expected calibration error over 15 equal-width bins, in percent (Guo et al. 2017).
    """
    from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

    count = len(classes)
    confusion = multiclass_confusion_matrix(logits, labels, num_classes=count)
    totals = confusion.sum(dim=1)
    per_class = [100.0 * int(confusion[c, c]) / int(totals[c]) if totals[c] else None for c in range(count)]
    return {
        "images": len(labels),
        "accuracy": accuracy(logits, labels),
        "loss": F.cross_entropy(logits, labels).item(),
        "per_class_accuracy": dict(zip(classes, per_class, strict=True)),
        "confusion_matrix": confusion.tolist(),
        "calibration_error": 100.0
        * multiclass_calibration_error(torch.softmax(logits, dim=1), labels, num_classes=count, n_bins=15).item(),
    }
