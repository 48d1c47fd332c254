"""A picture of a data set: a row of sample images for each class."""

from pathlib import Path

import numpy as np

from fastcifar.atomic import written_whole
from fastcifar.dataset.image_set import Dataset

IMAGES_A_CLASS = 10
SCALE = 2
"""Screen pixels a data pixel, at least: whole numbers keep the pixels square."""
GAP = 3


def sample_mosaic(dataset: Dataset, columns: int = IMAGES_A_CLASS) -> np.ndarray:
    """The first `columns` training images of each class on white, uint8 [rows, columns, 3] in data pixels."""
    cell = 32 + GAP
    mosaic = np.full((len(dataset.classes) * cell - GAP, columns * cell - GAP, 3), 255, dtype=np.uint8)
    for label in range(len(dataset.classes)):
        for column, index in enumerate(np.flatnonzero(dataset.train.labels == label)[:columns]):
            top, left = label * cell, column * cell
            mosaic[top : top + 32, left : left + 32] = dataset.train.images[index]
    return mosaic


def write_sample_grid(dataset: Dataset, path: Path) -> None:
    """Write a PNG with one labelled row of training images for each class.

    Raises:
        UsageError: the place cannot be written to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mosaic = np.repeat(np.repeat(sample_mosaic(dataset), SCALE, axis=0), SCALE, axis=1)
    height, width = (size / 100 for size in mosaic.shape[:2])
    # In inches, as are width and height at 100 dpi; a letter of the labels takes 0.09.
    label_width, title_height, margin = 0.25 + 0.09 * max(map(len, dataset.classes)), 0.5, 0.12
    total_width, total_height = label_width + width + margin, title_height + height + margin
    figure = Figure(figsize=(total_width, total_height), dpi=200)
    axes = figure.add_axes(
        (label_width / total_width, margin / total_height, width / total_width, height / total_height)
    )
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    centres = (np.arange(len(dataset.classes)) * (32 + GAP) + 16) * SCALE
    axes.set_yticks(centres, dataset.classes, fontsize=10)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.text(
        label_width / total_width,
        1 - title_height / 2 / total_height,
        f"{dataset.title}: training images of each class",
        fontsize=11,
        fontweight="bold",
        va="center",
    )
    with written_whole(path) as partial:
        FigureCanvasAgg(figure).print_png(str(partial))
