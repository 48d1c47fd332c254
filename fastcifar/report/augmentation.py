"""What augmentation makes of the training images."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from fastcifar.augment.draws import sample_draws
from fastcifar.augment.policy import AugmentPolicy, dropout_fill
from fastcifar.augment.reference import augmented_levels
from fastcifar.dataset.image_set import Dataset
from fastcifar.dataset.statistics import ChannelStatistics
from fastcifar.report.style import WIDTH, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPOCHS = 7


def augmentation_figure(data: Dataset, policy: AugmentPolicy, statistics: ChannelStatistics, seed: int) -> "Figure":
    """A training image of each class: stored, and as the run met it in its first epochs, at 32 pixels."""
    labels = data.train.labels
    chosen = np.array([np.flatnonzero(labels == label)[0] for label in range(len(data.classes)) if label in labels])
    columns = [
        data.train.images[chosen],
        *(_augmented(data, policy, statistics, seed, e, chosen) for e in range(EPOCHS)),
    ]
    height = WIDTH * len(chosen) / (len(columns) + 1.4)
    with new_figure(height + 0.3) as figure:
        grid = figure.subplots(len(chosen), len(columns), squeeze=False)
        for column, images in enumerate(columns):
            for row, pixels in enumerate(images):
                axes = grid[row, column]
                axes.imshow(pixels, interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
                axes.spines[:].set_visible(False)
            grid[0, column].set_title(
                "stored" if column == 0 else f"epoch {column}", fontsize=8, weight="normal", loc="center"
            )
        for row, index in enumerate(chosen):
            grid[row, 0].set_ylabel(data.classes[labels[index]], rotation=0, ha="right", va="center", fontsize=8.5)
        return figure


def _augmented(
    data: Dataset, policy: AugmentPolicy, statistics: ChannelStatistics, seed: int, epoch: int, chosen: np.ndarray
) -> np.ndarray:
    """uint8 [N, 32, 32, 3], in the draws that the training made."""
    draws = sample_draws(policy, seed, epoch, torch.from_numpy(chosen))
    images = torch.from_numpy(data.train.images[chosen])
    levels = augmented_levels(images, draws, policy, dropout_fill(statistics.mean))
    return levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
