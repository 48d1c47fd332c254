"""What a data set is made of, in numbers: for people as lines, for programs as a dictionary."""

from typing import Any

from fastcifar.dataset.cifar10 import PUBLISHED_MEAN, PUBLISHED_STD
from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.statistics import ChannelStatistics, channel_statistics

PUBLISHED_TOLERANCE = 0.001
"""The published numbers have four digits; saving as JPEG moves the deviations by more than this."""


def dataset_summary(dataset: Dataset) -> dict[str, Any]:
    """Counts of each class, and mean and deviation of the training pixels as fractions of 1.

    `as_published` says whether the colours are those of CIFAR-10; None for other data.
    """
    statistics = channel_statistics(dataset.train.images)
    counts = {
        split: dict(zip(dataset.classes, images.class_counts(len(dataset.classes)), strict=True))
        for split, images in (("train", dataset.train), ("test", dataset.test))
    }
    return {
        "dataset": dataset.name,
        "title": dataset.title,
        "source": dataset.source,
        "train_images": len(dataset.train),
        "test_images": len(dataset.test),
        "counts": counts,
        "mean": statistics.mean,
        "std": statistics.std,
        "as_published": _as_published(statistics) if dataset.name == "cifar10" else None,
    }


def summary_lines(summary: dict[str, Any]) -> list[str]:
    """The summary as a table and two lines of numbers."""
    train, test = summary["counts"]["train"], summary["counts"]["test"]
    width = max(len(name) for name in ("class", *train))
    lines = [f"{summary['title']}: {summary['source']}", f"{'class':{width}}  {'train':>8}  {'test':>8}"]
    lines += [f"{name:{width}}  {count:8,}  {test[name]:8,}" for name, count in train.items()]
    lines.append(f"{'all':{width}}  {summary['train_images']:8,}  {summary['test_images']:8,}")
    for name in ("mean", "std"):
        red, green, blue = summary[name]
        lines.append(f"{name:{width}}  red {red:.4f}  green {green:.4f}  blue {blue:.4f}")
    return lines


def _as_published(statistics: ChannelStatistics) -> bool:
    measured, published = statistics.mean + statistics.std, PUBLISHED_MEAN + PUBLISHED_STD
    return all(abs(a - b) < PUBLISHED_TOLERANCE for a, b in zip(measured, published, strict=True))
