"""A picture of the comparison: one image a transform, what each backend makes of it, and the amplified difference."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fastcifar.atomic import written_whole
from fastcifar.augment.draws import sample_draws
from fastcifar.parity.backends import Backend, Colour
from fastcifar.parity.compare import ALWAYS, WITH_BORDER

AMPLIFICATION = 64
"""One grey level of difference is drawn as 64: visible, and two as twice that."""


def write_picture(
    images: np.ndarray, truth: Backend, others: Sequence[Backend], mean: Colour, border: str, path: Path
) -> None:
    """Write a PNG with a row for each transform; the images are the set's first, one a row.

    images: uint8 [N, 32, 32, 3], at least one a transform.

    Raises:
        UsageError: the place cannot be written to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    cases = ALWAYS | {name: replace(policy, border=border, gray=0.0) for name, policy in WITH_BORDER.items()}
    cases["everything"] = replace(cases["everything"], flip=1.0, affine=1.0, dropout=1.0, gray=1.0, dropout_size=12)
    titles = ["stored", truth.title, *(other.title for other in others)]
    titles += [f"{other.name} - {truth.name}\nx {AMPLIFICATION}" for other in others]
    figure = Figure(figsize=(1.25 * len(titles) + 1.3, 1.25 * len(cases) + 0.9), dpi=150, layout="constrained")
    grid = figure.subplots(len(cases), len(titles))
    for row, (name, policy) in enumerate(cases.items()):
        stored = images[row : row + 1]
        draws = sample_draws(policy, 0, 0, torch.tensor([row]))
        made = [backend.levels(stored, draws, policy, mean)[0] for backend in (truth, *others)]
        shown = [stored[0], *made, *(_amplified(other, made[0]) for other in made[1:])]
        for column, pixels in enumerate(shown):
            axes = grid[row, column]
            axes.imshow(pixels, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_linewidth(0.4)
            if row == 0:
                axes.set_title(titles[column], fontsize=7)
        grid[row, 0].set_ylabel(name.replace(", ", ",\n"), fontsize=7, rotation=0, ha="right", va="center")
    figure.suptitle(f"The same draws through every backend, border {border}", fontsize=9, fontweight="bold")
    with written_whole(path) as partial:
        FigureCanvasAgg(figure).print_png(str(partial))


def _amplified(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    difference = np.abs(found.astype(np.int32) - expected)
    return np.minimum(AMPLIFICATION * difference, 255).astype(np.uint8)
