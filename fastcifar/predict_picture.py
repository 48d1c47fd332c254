"""A picture of predictions: each image, what the network sees of it, where it saw the evidence, and how sure it is."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcifar.atomic import written_whole
from fastcifar.evaluation.gradcam import overlay

MOST_ROWS = 20
"""Beyond these a picture is too long to look at."""
BARS = 3
SCALE = 8
"""Screen pixels a pixel of the network's image: a whole number keeps the pixels square."""
LONGEST_SIDE = 32 * SCALE
"""Of an image as it is shown, in screen pixels."""

DPI = 160
INK, PALE, TRACK, FIRST, OTHER = "#222222", "#767676", "#e9e9e9", "#d1502a", "#9b9b9b"
# In inches, and whole numbers of screen pixels, so that no pixel of an image is wider than another.
CELL, GAP, MARGIN, PANEL = LONGEST_SIDE / DPI, 0.125, 0.3, 2.4
HEADER, FOOTER = 0.8625, 0.425
COLUMNS = [MARGIN + column * (CELL + GAP) for column in range(3)]
PANEL_LEFT = COLUMNS[2] + CELL + 0.3
WIDTH = PANEL_LEFT + PANEL + MARGIN


def write_predictions(
    record: dict[str, Any], thumbnails: Sequence[np.ndarray], seen: np.ndarray, heat: Tensor, path: Path
) -> None:
    """Write a PNG with a row for each of the first images of a record of `fastcifar.predict.predict`.

    Args:
        thumbnails: uint8 [H, W, 3] of any size, each shown as large as the cell allows.
        seen: uint8 [N, 32, 32, 3].
        heat: [N, 32, 32], from 0 to 1, of the likeliest classes.

    Raises:
        UsageError: the place cannot be written to.
    """
    height = HEADER + len(seen) * (CELL + GAP) + FOOTER
    rows = zip(record["images"][: len(seen)], thumbnails, seen, overlay(seen, heat), strict=True)
    with written_whole(path) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a box stands for a letter that the font lacks
        page = _Page(WIDTH, height)
        _head(page, record)
        for number, (image, *pictures) in enumerate(rows):
            top = HEADER + number * (CELL + GAP)
            for left, pixels in zip(COLUMNS, pictures, strict=True):
                page.picture(left, top, CELL, CELL, pixels)
            _bars(page, top, image)
        _foot(page, height - FOOTER / 2 - 0.04, len(seen), len(record["images"]))
        page.canvas.print_png(str(partial))


def _head(page: "_Page", record: dict[str, Any]) -> None:
    page.text(MARGIN, 0.34, f"{record['model']} trained on {record['dataset']}", 11, weight="bold")
    for left, title in zip(COLUMNS, ("picture", "what the network sees", "evidence for the first choice"), strict=True):
        page.text(left, HEADER - 0.12, title, 7.5, PALE)
    page.text(PANEL_LEFT, HEADER - 0.12, "confidence", 7.5, PALE)


def _bars(page: "_Page", top: float, image: dict[str, Any]) -> None:
    """The file's name, and a bar for each of the likeliest classes."""
    page.text(PANEL_LEFT, top + 0.09, Path(image["file"]).name, 7.5, PALE, width=PANEL, shorten="start")
    for place, found in enumerate(image["predictions"][:BARS]):
        below = top + 0.4 + place * 0.42
        weight, colour = ("bold", FIRST) if place == 0 else ("normal", OTHER)
        page.text(PANEL_LEFT, below, found["class"], 9, weight=weight, width=PANEL - 0.65)
        percent = f"{100 * found['probability']:.1f} %"
        page.text(PANEL_LEFT + PANEL, below, percent, 9, weight=weight, align="right")
        page.bar(PANEL_LEFT, below + 0.06, PANEL, TRACK)
        page.bar(PANEL_LEFT, below + 0.06, PANEL * found["probability"], colour)


def _foot(page: "_Page", baseline: float, drawn: int, given: int) -> None:
    """What the colours mean, drawn by the overlay itself on a medium grey."""
    steps = torch.linspace(0, 1, 128)[None, None]
    scale = overlay(np.full((1, 1, 128, 3), 140, dtype=np.uint8), steps)[0]
    page.text(COLUMNS[0], baseline, "evidence (Grad-CAM), each picture to its own maximum", 7.5, PALE)
    page.text(COLUMNS[2], baseline, "none", 7.5, PALE)
    page.picture(COLUMNS[2] + 0.34, baseline - 0.09, CELL - 0.68, 0.1, scale, fill=True)
    page.text(COLUMNS[2] + CELL, baseline, "most", 7.5, PALE, align="right")
    if drawn < given:
        page.text(PANEL_LEFT + PANEL, baseline, f"the first {drawn} of {given:,} pictures", 7.5, PALE, align="right")


class _Page:
    """A figure whose places are inches from the left and from the top."""

    def __init__(self, width: float, height: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=DPI)
        self.canvas = FigureCanvasAgg(self.figure)

    def picture(
        self, left: float, top: float, width: float, height: float, pixels: np.ndarray, fill: bool = False
    ) -> None:
        """Pixels as large as the box allows, in its middle; with `fill` as wide and high as it."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box)
        axes.imshow(pixels, aspect="auto" if fill else "equal")
        axes.set_axis_off()

    def text(
        self,
        left: float,
        baseline: float,
        text: str,
        size: float,
        colour: str = INK,
        weight: str = "normal",
        align: str = "left",
        width: float | None = None,
        shorten: str = "end",
    ) -> None:
        """Text as it is: no formula, no letters that break a line; shortened to `width` at its start or end."""
        from matplotlib.text import Text

        shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
        artist: Text = self.figure.text(
            left / self.width,
            1 - baseline / self.height,
            shown,
            fontsize=size,
            color=colour,
            fontweight=weight,
            ha=align,
            va="baseline",
            parse_math=False,
        )
        while width is not None and len(shown) > 1 and artist.get_window_extent().width > width * DPI:
            shown = shown[1:] if shorten == "start" else shown[:-1]
            artist.set_text(f"...{shown}" if shorten == "start" else f"{shown}...")

    def bar(self, left: float, top: float, width: float, colour: str) -> None:
        from matplotlib.patches import Rectangle

        place = (left / self.width, 1 - (top + 0.08) / self.height)
        size = (width / self.width, 0.08 / self.height)
        self.figure.add_artist(Rectangle(place, *size, color=colour, linewidth=0))
