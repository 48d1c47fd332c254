"""The method of every benchmark: the subjects of a group measured in turn.

A round has a turn of every subject, every other round from the last to the first, so that a machine that drifts treats
all alike. A ratio is taken within each round, and what is told of it is the median over the rounds, with the 20th and
the 80th percentile.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

TURN_S = 0.02
"""Least seconds of a turn: a quick subject is called so many times in it that the clock and the waking of threads do
not count."""
ROUNDS = range(5, 21)
"""Of a group that gives seconds: as many as fit `SECONDS`, within these bounds."""
SHORT_ROUNDS = 5
SECONDS = 2.0


class Spread(NamedTuple):
    """Percentiles over the rounds."""

    p20: float
    median: float
    p80: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        return cls(*np.percentile(values, [20, 50, 80]).tolist())


@dataclass
class InTurn:
    """A group's subjects and what each cost.

    Attributes:
        subjects: by name; a call does the group's work once.
        baseline: the subject that the others are compared with.
        returned: a call's cost is the number that it returns (bytes, or seconds that it took itself), not its time on
            the clock; it is then called once a round, and needs no warming up.
        pause_s: seconds before each turn, for what the subject before still reads ahead.
        synchronize: waits until the device has done what it was given.
        costs: of a call, one figure a round.
        cpu_s: processor time of a call, likewise; that of worker processes included.
    """

    subjects: Mapping[str, Callable[[], Any]]
    baseline: str
    returned: bool = False
    pause_s: float = 0.0
    synchronize: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.perf_counter
    costs: dict[str, list[float]] = field(init=False)
    cpu_s: dict[str, list[float]] = field(init=False)

    def __post_init__(self) -> None:
        if self.baseline not in self.subjects:
            raise ValueError(f"the baseline {self.baseline!r} is none of {', '.join(self.subjects)}")
        self.costs = {name: [] for name in self.subjects}
        self.cpu_s = {name: [] for name in self.subjects}
        self._order = list(self.subjects)
        self._calls = dict.fromkeys(self.subjects, 1)

    def warm_up(self) -> float:
        """A round that does not count, in which each subject's calls a turn are found; returns a round's seconds."""
        total = 0.0
        for name in self.subjects:
            while (seconds := self._seconds(name)) < TURN_S:
                self._calls[name] *= 2
            total += seconds + self.pause_s
        return total

    def round(self) -> None:
        """A turn of every subject."""
        for name in self._order:
            time.sleep(self.pause_s)
            cpu = cpu_seconds()
            cost = float(self.subjects[name]()) if self.returned else self._seconds(name) / self._calls[name]
            self.costs[name].append(cost)
            self.cpu_s[name].append((cpu_seconds() - cpu) / self._calls[name])
        self._order.reverse()

    def ratios(self, name: str) -> list[float]:
        """What the baseline cost over what this subject did, round by round: above 1 is better."""
        return [first / own for first, own in zip(self.costs[self.baseline], self.costs[name], strict=True)]

    def cores(self, name: str) -> float | None:
        """How many the subject kept busy; None where its cost is not its time on the clock."""
        if self.returned:
            return None
        return median(cpu / seconds for cpu, seconds in zip(self.cpu_s[name], self.costs[name], strict=True))

    def _seconds(self, name: str) -> float:
        subject = self.subjects[name]
        self.synchronize()
        start = self.clock()
        for _ in range(self._calls[name]):
            subject()
        self.synchronize()
        return self.clock() - start


def rounds_for(round_s: float, short: bool) -> int:
    """How many rounds a group gets whose round takes so long."""
    if short:
        return SHORT_ROUNDS
    return int(min(max(SECONDS / round_s, ROUNDS.start), ROUNDS.stop - 1))


def cpu_seconds() -> float:
    """Processor time of this process, of its living workers (in steps of 10 ms) and of processes that have ended."""
    ticks = 0
    for process in multiprocessing.active_children():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # user and system time, which stand 14th and 15th in the line
    ended = os.times()
    return time.process_time() + ended.children_user + ended.children_system + ticks / os.sysconf("SC_CLK_TCK")
