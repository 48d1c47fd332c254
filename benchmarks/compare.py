"""What changed between two records of benchmarks: `python benchmarks/compare.py A.json B.json [--share 0.1]`.

Only ratios are compared, never seconds: those belong to the machine and the hour. A change counts where the bands from
the 20th to the 80th percentile of the rounds do not meet. Exit code 6: a ratio fell by more than the share, or is
missing.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fastcifar.errors import CheckFailedError, DataError, FastcifarError

Ratios = dict[str, dict[str, float]]
"""By case, which names group, subject and baseline: p20, median and p80 of its ratio."""


def main(arguments: list[str] | None = None) -> int:
    """Print the changes; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--share", type=float, default=0.1, help="of a ratio that may be lost; 0.1")
    given = parser.parse_args(arguments)
    try:
        before, after = ratios(given.before), ratios(given.after)
        print(*describe(before, after), sep="\n")
        if lost := regressions(before, after, given.share):
            told = f"{len(lost)} ratio(s) fell by more than {given.share:.0%} or are missing"
            raise CheckFailedError(told, "see the lines above")
    except FastcifarError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def ratios(path: Path) -> Ratios:
    """The ratios of a record, but for the baselines' and for those along an axis, which compare us with ourselves.

    Raises:
        DataError: the file is missing or no such record.
    """
    try:
        groups: list[dict[str, Any]] = json.loads(path.read_text())["groups"]
        return {
            f"{group['group']}: {name} against {group['baseline']}": row["ratio"]
            for group in groups
            if not group["axis"]
            for name, row in group["subjects"].items()
            if name != group["baseline"]
        }
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{path} is no record of benchmarks", "make one with make bench") from None


def beyond_noise(before: dict[str, float], after: dict[str, float]) -> bool:
    """Whether two ratios differ by more than their rounds do."""
    return after["p80"] < before["p20"] or before["p80"] < after["p20"]


def regressions(before: Ratios, after: Ratios, share: float) -> list[str]:
    """The cases whose ratio fell beyond noise and by more than `share` of what it was, or that are gone."""
    return [
        case
        for case, ratio in before.items()
        if case not in after
        or (beyond_noise(ratio, after[case]) and after[case]["median"] < (1 - share) * ratio["median"])
    ]


def describe(before: Ratios, after: Ratios) -> list[str]:
    """A line for each change beyond noise, the worst first, and for each case that only one of the records has."""
    common = [case for case in before if case in after]
    change = {case: after[case]["median"] / before[case]["median"] for case in common}
    changed = sorted((case for case in common if beyond_noise(before[case], after[case])), key=change.__getitem__)
    lines = [
        f"{change[case] - 1:+7.1%}  {before[case]['median']:.2f} -> {after[case]['median']:.2f}  {case}"
        for case in changed
    ]
    lines += [f"missing  {case}" for case in before if case not in after]
    lines += [f"new      {case}" for case in after if case not in before]
    return [*lines, f"{len(common)} ratios compared, {len(changed)} changed beyond noise"]


if __name__ == "__main__":
    sys.exit(main())
