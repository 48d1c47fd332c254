"""The table of ratios at the end of a session."""

from collections.abc import Iterator
from typing import Any

WIDTH = 44
_COLUMNS = f"{'':<{WIDTH}} {'median':>10} {'p20 .. p80':>21} {'':<8} " + (
    f"{'ratio':>8} {'p20 .. p80':>15} {'cores':>6} {'ceiling':>8}"
)


def table(groups: list[dict[str, Any]], skipped: dict[str, str]) -> Iterator[str]:
    """Lines of text: under each group its subjects, the baseline with ratio 1; then what was skipped, and why.

    groups: as `group_record` makes them.
    skipped: by case, the reason.
    """
    yield _COLUMNS
    for group in groups:
        yield group["group"]
        for name, row in group["subjects"].items():
            yield _line(name, row, group)
            if "note" in row:
                yield f"      {row['note']}"
        for name, reason in group["left_out"].items():
            yield f"  {name:<{WIDTH - 2}} left out: {reason}"
    for case, reason in skipped.items():
        yield f"{case:<{WIDTH}} skipped: {reason}"


def _line(name: str, row: dict[str, Any], group: dict[str, Any]) -> str:
    shown, ratio, cores = row["shown"], row["ratio"], row["cores"]
    share = f"{row['share_of_ceiling']:8.0%}" if "share_of_ceiling" in row else " " * 8
    band = "baseline" if name == group["baseline"] else f"{ratio['p20']:.2f} .. {ratio['p80']:.2f}"
    spread = f"{number(shown['p20'])} .. {number(shown['p80'])}"
    return (
        f"  {name:<{WIDTH - 2}} {number(shown['median']):>10} {spread:>21}"
        f" {group['work']['unit']:<8} {ratio['median']:>8.2f} {band:>15}"
        f" {'' if cores is None else f'{cores:.1f}':>6} {share}"
    ).rstrip()


def number(value: float) -> str:
    """Three digits or more, as a person reads it."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
