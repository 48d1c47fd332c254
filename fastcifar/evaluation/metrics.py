"""Figures made from logits and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class ClassFigures:
    """Percentages of one class, and how many images of it there are."""

    precision: float
    recall: float
    f1: float
    images: int


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose confidence lies in one interval: how many, percent right, mean confidence in percent."""

    images: int
    accuracy: float
    confidence: float


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


def class_figures(confusion: Sequence[Sequence[int]]) -> list[ClassFigures]:
    """Precision, recall and F1 of each class from a confusion matrix [true class][predicted class].

    A figure whose denominator is zero is 0, as in scikit-learn's classification_report.
    """
    columns = [sum(column) for column in zip(*confusion, strict=True)]
    return [
        ClassFigures(
            precision=100.0 * row[c] / columns[c] if columns[c] else 0.0,
            recall=100.0 * row[c] / sum(row) if sum(row) else 0.0,
            f1=200.0 * row[c] / (sum(row) + columns[c]) if sum(row) + columns[c] else 0.0,
            images=sum(row),
        )
        for c, row in enumerate(confusion)
    ]


def reliability(logits: Tensor, labels: Tensor, bins: int = 15) -> list[ReliabilityBin]:
    """How often the network is right among the images that it is so sure of, bin by bin.

    Bins are of equal width and open on the left, as in Guo et al. 2017 (arXiv 1706.04599).
    """
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    bin_of = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    images = torch.bincount(bin_of, minlength=bins)
    right = torch.bincount(bin_of, weights=(predicted == labels).double(), minlength=bins)
    sure = torch.bincount(bin_of, weights=confidence, minlength=bins)
    return [
        ReliabilityBin(count, 100.0 * hits / max(1, count), 100.0 * total / max(1, count))
        for count, hits, total in zip(images.tolist(), right.tolist(), sure.tolist(), strict=True)
    ]


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error in percent: |accuracy - confidence| by confidence bin, weighted by its images."""
    found = reliability(logits, labels, bins)
    return sum(one.images * abs(one.accuracy - one.confidence) for one in found) / len(labels)
