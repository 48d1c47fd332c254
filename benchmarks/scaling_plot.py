"""The groups of a record whose subjects are numbers along an axis, as a picture: a panel each."""

from math import ceil
from pathlib import Path
from typing import Any

from matplotlib import ticker

from fastcifar.report.style import EVALUATED, new_figure, write_png

COLUMNS = 2
PANEL_INCHES = 2.1


def plot_scaling(groups: list[dict[str, Any]], path: Path) -> None:
    """Cost or rate against the axis, both logarithmic, with a band from the 20th to the 80th percentile.

    groups: as `group_record` makes them, each with an axis.
    """
    rows = ceil(len(groups) / COLUMNS)
    with new_figure(PANEL_INCHES * rows) as figure:
        panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
        for axes, group in zip(panels, groups, strict=False):
            _panel(axes, group)
        for axes in panels[len(groups) :]:
            axes.axis("off")
        write_png(figure, path)


def _panel(axes: Any, group: dict[str, Any]) -> None:
    numbers = [float(name) for name in group["subjects"]]
    low, middle, high = ([row["shown"][key] for row in group["subjects"].values()] for key in ("p20", "median", "p80"))
    axes.fill_between(numbers, low, high, color=EVALUATED, alpha=0.25, linewidth=0)
    axes.plot(numbers, middle, "o-", color=EVALUATED, markersize=3.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(numbers, [f"{number:,.10g}" for number in numbers], fontsize=6.5)
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.tick_params(axis="y", labelsize=6.5)
    axes.set_ylim(min(low) / 1.5, max(high) * 1.5)
    axes.set_title(group["group"].replace(": ", "\n", 1), fontsize=6.5)
    axes.set_xlabel(group["axis"], fontsize=7)
    axes.set_ylabel(group["work"]["unit"], fontsize=7)
