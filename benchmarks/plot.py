"""A record's ratios as a picture: horizontal bars on a logarithmic axis."""

from pathlib import Path
from typing import Any

from matplotlib import ticker

from fastcifar.report.style import EVALUATED, FAINT, INK, new_figure, write_png

ROW_INCHES = 0.17
DOTS_PER_INCH = 110


def plot_ratios(groups: list[dict[str, Any]], path: Path) -> None:
    """Every subject but the baselines, under its group; a whisker from the 20th to the 80th percentile.

    groups: as `group_record` makes them.
    """
    rows = [row for group in groups for row in _rows(group)]
    with new_figure(1 + ROW_INCHES * len(rows)) as figure:
        figure.set_dpi(DOTS_PER_INCH)
        axes = figure.subplots()
        for place, (label, ratio) in enumerate(rows):
            if ratio is None:
                axes.text(
                    0, place, label, transform=axes.get_yaxis_transform(), weight="bold", fontsize=6.5, va="center"
                )
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
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_yticks(range(len(rows)), ["" if ratio is None else label for label, ratio in rows], fontsize=6.5)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.set_xlabel("times the baseline of the group, in the same rounds", fontsize=8)
        write_png(figure, path)


def _rows(group: dict[str, Any]) -> list[tuple[str, dict[str, float] | None]]:
    """The group's heading, without a ratio, and its subjects."""
    others = [(name, row["ratio"]) for name, row in group["subjects"].items() if name != group["baseline"]]
    return [(f"{group['group']}, against {group['baseline']}", None), *others]
