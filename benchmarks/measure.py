"""A group of a benchmark: checked, measured in turn under pytest-benchmark, and recorded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from ceilings import Ceilings
from in_turn import InTurn, rounds_for
from record import Work, group_record

from fastcifar.runtime import synchronize

CALLS = Work()


@dataclass(frozen=True)
class Measure:
    """The `measure` fixture.

    Attributes:
        benchmark: pytest-benchmark's fixture, which runs the rounds.
        ceilings: of a type of device, on the threads that torch is set to.
        short: a few rounds only.
    """

    benchmark: Any
    ceilings: Callable[[str], Ceilings]
    short: bool

    def __call__(
        self,
        group: str,
        subjects: Mapping[str, Callable[[], Any]],
        *,
        baseline: str,
        check: Callable[[], object],
        work: Work | Mapping[str, Work] = CALLS,
        axis: str = "",
        device: str = "cpu",
        rounds: int | None = None,
        pause_s: float = 0.0,
        left_out: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        """Measure the subjects; returns their record, which is kept as it is when the test ends.

        Args:
            subjects: by name; a call does `work` once.
            baseline: the subject that a user would pick instead. Where it is left out, there is nothing to compare
                with and the test is skipped.
            check: called before any timing; raises unless the subjects do the same work and do it right.
            work: of a call; by subject where they differ in more than how they do it.
            axis: what the subjects' names are numbers of, in a group that shows how cost scales; it is plotted.
            rounds: of subjects that return what they cost; None: they cost their time on the clock.
            pause_s: see `InTurn`.
            left_out: subjects that cannot be had here, each with the reason.
        """
        left_out = left_out or {}
        if baseline in left_out:
            pytest.skip(left_out[baseline])
        check()
        works = work if isinstance(work, Mapping) else dict.fromkeys(subjects, work)
        ceilings = self.ceilings(device) if any(one.bytes_moved or one.flops for one in works.values()) else None
        wait = partial(synchronize, torch.device(device))
        measured = InTurn(subjects, baseline, returned=rounds is not None, pause_s=pause_s, synchronize=wait)
        if rounds is None:
            rounds = rounds_for(measured.warm_up(), self.short)
        self.benchmark.group = group
        self.benchmark.pedantic(measured.round, rounds=rounds)
        record = group_record(group, measured, works, ceilings, left_out, axis)
        self.benchmark.extra_info["in_turn"] = record
        return record


def checks_itself() -> None:
    """The check of subjects that are processes: each call raises if its process fails or says something else."""


def agree(results: Mapping[str, Callable[[], Any]], baseline: str, tolerance: float) -> Callable[[], None]:
    """A check that all return what the baseline returns: tensors, or sequences of them, in which None counts for none.

    tolerance: of the difference's Euclidean norm over that of the baseline's tensor. (A gradient behind a ReLU may
    differ wholly in the few places where its input is 0 but for rounding, so that its largest difference says nothing.)
    """

    def check() -> None:
        expected = _tensors(results[baseline]())
        for name, result in results.items():
            if name == baseline:
                continue  # called once: a training step's second result is another
            found = _tensors(result())
            assert [one.shape for one in found] == [one.shape for one in expected], name
            for index, (own, truth) in enumerate(zip(found, expected, strict=True)):
                error, size = (own - truth).norm().item(), truth.norm().item()
                told = (
                    f"{name}: result {index} differs from that of {baseline} by {error:.1e}, whose norm is {size:.1e}"
                )
                assert error <= tolerance * size, told

    return check


def _tensors(result: Any) -> list[torch.Tensor]:
    """Copies in float32, since a subject may write its next result into the same memory."""
    several = [result] if isinstance(result, torch.Tensor) else [one for one in result if one is not None]
    return [tensor.detach().float().clone() for tensor in several]
