"""One look for all figures, and how they become PNG files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastcifar.atomic import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 6.4
"""Inches, of every figure: a phone shows the whole width with letters that can still be read."""
DOTS_PER_INCH = 200

TRAIN, EVALUATED, FAINT, INK = "#d9730d", "#1f5fa8", "#b8c4d0", "#22303c"
"""Orange and blue are told apart by people with any of the usual colour blindnesses."""
SERIES = ("#1f5fa8", "#d9730d", "#2f8f6b", "#a0438e", "#7a6a00", "#c0392b", "#4b4b9f", "#5c7080")

_LOOK: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6ebf0",
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


@contextmanager
def new_figure(height: float) -> Iterator["Figure"]:
    """An empty figure in the look that holds while it is filled; `height` in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_LOOK):
        yield Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")


def write_png(figure: "Figure", path: Path) -> None:
    """Draw a figure into a file.

    Raises:
        UsageError: the place cannot be written to.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with matplotlib.rc_context(_LOOK), written_whole(path) as partial:
        FigureCanvasAgg(figure).print_png(str(partial))
