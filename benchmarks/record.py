"""What a session of benchmarks keeps: a dictionary a group, and all of them with the machine in one JSON file."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ceilings import Ceilings
from in_turn import InTurn, Spread

from fastcifar.atomic import written_whole

UNITS = ("images/s", "µs", "ms", "s", "MiB")
"""In which a group's cost is shown; costs themselves are seconds or bytes."""
_SCALE = {"µs": 1e6, "ms": 1e3, "s": 1.0, "MiB": 2.0**-20}


@dataclass(frozen=True)
class Work:
    """What one call of a subject does; in most groups the same for all of them, and the unit is in every one.

    Attributes:
        unit: one of `UNITS`.
        amount: images, or calls where a subject captured several.
        bytes_moved: that must be read and written at least.
        flops: floating-point operations, a multiply-add being two.
    """

    unit: str = "µs"
    amount: float = 1
    bytes_moved: float = 0
    flops: float = 0

    def shown(self, cost: float) -> float:
        """A call's cost in `unit`."""
        return self.amount / cost if self.unit == "images/s" else cost / self.amount * _SCALE[self.unit]


def group_record(
    group: str,
    measured: InTurn,
    works: Mapping[str, Work],
    ceilings: Ceilings | None,
    left_out: dict[str, str],
    axis: str = "",
) -> dict[str, Any]:
    """For a benchmark's `extra_info`: every subject's costs, ratio to the baseline, and distance from its floor.

    works: of every subject.
    ceilings: of the device; None where the work is not known in bytes or operations.
    left_out: subjects that could not be measured, each with the reason.
    axis: what the subjects' names are numbers of; "": of nothing.
    """
    return {
        "group": group,
        "baseline": measured.baseline,
        "axis": axis,
        "work": asdict(works[measured.baseline]),
        "ceilings": ceilings and asdict(ceilings),
        "subjects": {name: _subject_record(name, measured, works[name], ceilings) for name in measured.subjects},
        "left_out": left_out,
    }


def _subject_record(name: str, measured: InTurn, work: Work, ceilings: Ceilings | None) -> dict[str, Any]:
    costs = measured.costs[name]
    row: dict[str, Any] = {
        "shown": Spread.of([work.shown(cost) for cost in costs])._asdict(),
        "ratio": Spread.of(measured.ratios(name))._asdict(),
        "costs": costs,
        "cores": measured.cores(name),
    }
    if ceilings:
        cost = Spread.of(costs).median
        floor_s, bound = ceilings.floor_s(work.bytes_moved, work.flops)
        row |= {"floor_s": floor_s, "bound": bound, "share_of_ceiling": floor_s / cost}
        row |= {"gb_per_s": work.bytes_moved / cost / 1e9, "gflop_per_s": work.flops / cost / 1e9}
    return row


def file_name(machine: dict[str, Any], short: bool, part: bool) -> str:
    """The conditions in a name: "bench-2cpu-amd-epyc-9b45-short.json"; part: not every benchmark was asked for."""
    cpu = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@", " ", machine["cpu"].lower())
    names = [cpu, *([machine["gpu"]["name"].lower()] if machine["gpu"] else [])]
    words = [re.sub(r"[^a-z0-9.]+", "-", name).strip("-") for name in names]
    return "-".join(["bench", f"{machine['cpu_count']}cpu", *words, *["short"] * short, *["part"] * part]) + ".json"


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Numbers to four digits: none of them is known better."""
    with written_whole(path) as partial:
        partial.write_text(json.dumps(_rounded(record), indent=1, ensure_ascii=False) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value
