"""A record's ratios as a picture: horizontal bars on a logarithmic axis."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from matplotlib import ticker, transforms

from fastcifar.report.style import EVALUATED, FAINT, INK, new_figure, write_png

ROW_INCHES = 0.17
DOTS_PER_INCH = 110

Row = tuple[str, dict[str, float] | None]
"""A label and its ratio, or a heading."""


def plot_ratios(groups: list[dict[str, Any]], path: Path) -> None:
    """Every subject but the baselines, under its group; a whisker from the 20th to the 80th percentile.

    Groups that follow each other and differ only in their case share a heading.

    groups: as `group_record` makes them.
    """
    rows = [row for _, alike in groupby(groups, _family) for row in _rows(list(alike))]
    with new_figure(1 + ROW_INCHES * len(rows)) as figure:
        figure.set_dpi(DOTS_PER_INCH)
        axes = figure.subplots()
        across = transforms.blended_transform_factory(figure.transFigure, axes.transData)
        for place, (label, ratio) in enumerate(rows):
            if ratio is None:
                heading = axes.text(0.01, place, label, transform=across, weight="bold", fontsize=6.5, va="center")
                heading.set_in_layout(False)
                continue
            low, middle, high = ratio["p20"], ratio["median"], ratio["p80"]
            axes.barh(place, middle - 1, left=1, height=0.7, color=EVALUATED)
            axes.errorbar(middle, place, xerr=[[middle - low], [high - middle]], color=INK, linewidth=1)
            axes.annotate(
                f"{middle:.2f}", (max(high, 1), place), (3, 0), textcoords="offset points", fontsize=6, va="center"
            )
        axes.axvline(1, color=FAINT, linewidth=1.5)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda ratio, _: f"{ratio:g}"))
        axes.tick_params(axis="x", labeltop=True, labelsize=7)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_yticks(range(len(rows)), ["" if ratio is None else label for label, ratio in rows], fontsize=6.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.set_xlabel("times the baseline of the group, in the same rounds", fontsize=8)
        write_png(figure, path)


def _family(group: dict[str, Any]) -> tuple[str, ...]:
    """Groups with the same of it share a heading: one subject, one baseline, the same words before the colon."""
    others = _others(group)
    kind = group["group"].partition(": ")[0] if len(others) == 1 else group["group"]
    return kind, group["baseline"], *others


def _rows(alike: list[dict[str, Any]]) -> Iterator[Row]:
    """The heading, then the subjects, or the cases of the one subject."""
    first, several = alike[0], len(alike) > 1
    kind, baseline, *others = _family(first)
    heading = f"{kind}: {others[0]} against {baseline}" if several else f"{first['group']}, against {baseline}"
    yield heading, None
    for group in alike:
        case = group["group"].partition(": ")[2]
        for name in others:
            yield case if several else name, group["subjects"][name]["ratio"]


def _others(group: dict[str, Any]) -> list[str]:
    return [name for name in group["subjects"] if name != group["baseline"]]
