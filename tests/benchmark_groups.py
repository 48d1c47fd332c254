"""Groups of benchmarks whose costs are made up."""

from collections.abc import Callable
from typing import Any

from ceilings import Ceilings
from in_turn import InTurn
from record import Work, group_record

CEILINGS = Ceilings("cpu", 2, bytes_per_s=1e9, flops_per_s=1e10, dtype="float32")


def recorded(
    costs: dict[str, list[float]], work: Work, ceilings: Ceilings | None = CEILINGS, axis: str = ""
) -> dict[str, Any]:
    """The record of a group whose subjects cost this, round by round; the first is the baseline."""
    subjects = {name: iter(values).__next__ for name, values in costs.items()}
    baseline, values = next(iter(costs.items()))
    measured = InTurn(subjects, baseline, returned=True)
    for _ in values:
        measured.round()
    return group_record("a group", measured, dict.fromkeys(costs, work), ceilings, {}, axis)


class PretendedBenchmark:
    """pytest-benchmark's fixture, as far as `Measure` uses it."""

    def __init__(self) -> None:
        self.group, self.extra_info = "", {}

    def pedantic(self, target: Callable[[], None], rounds: int) -> None:
        for _ in range(rounds):
            target()
