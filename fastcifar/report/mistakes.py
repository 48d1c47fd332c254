"""The images that a network is surest of and wrong about, and where it looked."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fastcifar.augment.policy import IDENTITY
from fastcifar.augment.reference import apply_draws
from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.statistics import ChannelStatistics
from fastcifar.evaluation.gradcam import gradcam, overlay
from fastcifar.report.style import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IN_A_ROW, ROWS = 3, 6


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified image: its place in the evaluated set, classes as numbers, confidence in percent."""

    index: int
    true: int
    predicted: int
    confidence: float


def surest_mistakes(logits: torch.Tensor, labels: torch.Tensor, most: int = IN_A_ROW * ROWS) -> list[Mistake]:
    """The wrongly classified images with the highest confidence, the surest first.

    logits: float32 [N, C].  labels: int64 [N].
    """
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    wrong = torch.nonzero(predicted != labels).flatten()
    surest = wrong[torch.argsort(confidence[wrong], descending=True, stable=True)][:most]
    return [
        Mistake(index, int(labels[index]), int(predicted[index]), 100 * float(confidence[index]))
        for index in surest.tolist()
    ]


def mistakes_figure(
    mistakes: list[Mistake], data: Dataset, model: nn.Module, statistics: ChannelStatistics
) -> "Figure":
    """Each image beside the Grad-CAM of the class that it was taken for.

    mistakes: at least one, places in `data.test`.
    model: on the CPU, in evaluation mode.
    """
    pixels = data.test.images[[mistake.index for mistake in mistakes]]
    images = apply_draws(torch.from_numpy(pixels), None, IDENTITY, statistics.mean, statistics.std)
    predicted = torch.tensor([mistake.predicted for mistake in mistakes])
    seen = overlay(pixels, gradcam(model, images, predicted))
    rows = -(-len(mistakes) // IN_A_ROW)
    with new_figure(1.28 * rows) as figure:
        cells = figure.subplots(rows, IN_A_ROW, squeeze=False)
        for axes in cells.flat:
            axes.set_axis_off()
        for axes, mistake, pair in zip(cells.flat, mistakes, zip(pixels, seen, strict=True), strict=False):
            gap = np.full((32, 2, 3), 255, dtype=np.uint8)
            axes.imshow(np.concatenate([pair[0], gap, pair[1]], axis=1), interpolation="nearest")
            names = data.classes[mistake.true], data.classes[mistake.predicted]
            axes.set_title(
                f"{names[0]}, taken for\n{names[1]}, {mistake.confidence:.1f} %", fontsize=8, weight="normal"
            )
        return figure
