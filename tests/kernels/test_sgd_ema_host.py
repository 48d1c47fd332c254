"""The raw C++ of `sgd_ema` compiled here: for every level of x86-64, and the CUDA kernel's blocks run on the host."""

import ctypes
import itertools
import random
from dataclasses import dataclass

import host_library
import numpy as np
import pytest
import torch
from sgd_ema_cases import Settings, law

CHUNK = 1024
GUARD = 16
"""Floats before and after every tensor that must stay NaN."""
GROUPS = [Settings(0.1, 0.9, 5e-4), Settings(1.6, 0.9, 0.0), Settings(0.05, 0.0, 0.1)]
kernels = pytest.mark.parametrize(
    ("machine", "kernel"),
    [*((machine, "sgd_ema_on_cpu") for machine in host_library.MACHINES), ("x86-64", "sgd_ema_in_blocks")],
)


class Row(ctypes.Structure):
    """Row of include/sgd_ema.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("parameter", "gradient", "momentum", "average")),
        ("count", ctypes.c_int64),
        ("group", ctypes.c_int32),
        ("first_chunk", ctypes.c_int32),
    )


def library(machine: str) -> ctypes.CDLL:
    loaded = host_library.library(machine, "sgd_ema", "sgd_ema_host.cpp")
    assert loaded.row_bytes() == ctypes.sizeof(Row)
    return loaded


class Poisoned:
    """float32 values between NaN guards, `shift` floats off the 64-byte grid."""

    def __init__(self, values: np.ndarray, shift: int) -> None:
        self.memory = np.full(len(values) + 2 * GUARD + 16 + shift, np.nan, dtype=np.float32)
        self.first = -(self.memory.ctypes.data // 4) % 16 + GUARD + shift
        self.values = self.memory[self.first : self.first + len(values)]
        self.values[:] = values

    def check_guards(self) -> None:
        assert np.isnan(self.memory[: self.first]).all()
        assert np.isnan(self.memory[self.first + len(self.values) :]).all()


@dataclass
class Case:
    """A row of the table; no gradient, no average and `copied` are the kinds of rows there are."""

    count: int
    group: int = 0
    gradient: bool = True
    average: bool = True
    copied: bool = False
    shifts: tuple[int, ...] = (0, 0, 0, 0)


def run(machine: str, kernel: str, cases: list[Case], share: float, nesterov: bool, parts: int = 1) -> list[list]:
    """Tensors [parameter, gradient, momentum, average] of every case before and after a step: (before, after)."""
    generator, rows, tensors, before, chunks = np.random.default_rng(len(cases)), [], [], [], 0
    for case in cases:
        values = [generator.standard_normal(case.count).astype(np.float32) for _ in range(4)]
        here = [Poisoned(value, shift) for value, shift in zip(values, case.shifts, strict=True)]
        present = [True, case.gradient, case.gradient, case.average]
        pointers = [t.values.ctypes.data if there else None for t, there in zip(here, present, strict=True)]
        rows.append(Row(*pointers, case.count, -1 if case.copied else case.group, chunks))
        chunks += -(-case.count // CHUNK)
        tensors.append(here)
        before.append([torch.from_numpy(value).double() for value in values])
    table = (Row * len(rows))(*rows)
    groups = np.array([[g.learning_rate, g.momentum, g.weight_decay] for g in GROUPS], dtype=np.float32)
    shares = np.array([share], dtype=np.float32)
    edges = np.linspace(0, chunks, parts + 1).astype(int)
    for begin, end in reversed(list(itertools.pairwise(edges))):
        getattr(library(machine), kernel)(
            table,
            len(rows),
            int(begin),
            int(end),
            ctypes.c_void_p(groups.ctypes.data),
            ctypes.c_void_p(shares.ctypes.data),
            ctypes.c_bool(nesterov),
        )
    for here in tensors:
        for tensor in here:
            tensor.check_guards()
    after = [[torch.from_numpy(tensor.values.copy()) for tensor in here] for here in tensors]
    return [before, after]


def expected(case: Case, before: list[torch.Tensor], share: float, nesterov: bool) -> list[torch.Tensor]:
    parameter, gradient, momentum, average = before
    if case.copied:
        return [parameter, gradient, momentum, parameter]
    moved, pushed, followed = law(before, GROUPS[case.group], share, nesterov)
    if not case.gradient:
        return [parameter, gradient, momentum, (1 - share) * average + share * parameter]
    return [moved, gradient, pushed, followed if case.average else average]


def check(cases: list[Case], states: list[list], share: float, nesterov: bool) -> None:
    for case, before, after in zip(cases, *states, strict=True):
        for wanted, found in zip(expected(case, before, share, nesterov), after, strict=True):
            torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)


def random_cases(seed: int) -> list[Case]:
    chance = random.Random(seed)
    cases = []
    for _ in range(25):
        count = chance.choice([1, 2, 3, 4, 5, 31, 63, 1020, 1023, 1024, 1025, 2048, 4100, chance.randint(1, 5000)])
        gradient = chance.random() < 0.7
        average = not gradient or chance.random() < 0.7
        shifts = (0, 0, 0, 0) if chance.random() < 0.5 else tuple(chance.randint(0, 5) for _ in range(4))
        cases.append(Case(count, chance.randrange(len(GROUPS)), gradient, average, shifts=shifts))
    cases[chance.randrange(25)] = Case(2 * chance.randint(1, 2000), gradient=False, copied=True)
    return cases


@kernels
@pytest.mark.parametrize("seed", range(6))
def test_every_element_follows_the_law_and_nothing_else_is_written(machine, kernel, seed):
    cases, nesterov = random_cases(seed), bool(seed % 2)
    share = [0.0, 0.02, 0.499, 0.5, 0.82, 1.0][seed]
    check(cases, run(machine, kernel, cases, share, nesterov), share, nesterov)


@kernels
@pytest.mark.parametrize("parts", [2, 3, 7, 50])
def test_shares_of_the_work_make_the_whole_in_any_order(machine, kernel, parts):
    cases = random_cases(77)
    whole = run(machine, kernel, cases, 0.1, True)
    pieces = run(machine, kernel, cases, 0.1, True, parts)
    for one, other in zip(whole[1], pieces[1], strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)


@kernels
def test_no_rows_and_no_chunks(machine, kernel):
    assert run(machine, kernel, [], 0.1, True) == [[], []]


@kernels
def test_an_average_arrives_exactly(machine, kernel):
    for share, place in ((0.0, 3), (1.0, 0)):
        (before,), (after,) = run(machine, kernel, [Case(1500, gradient=False)], share, True)
        assert torch.equal(after[3].double(), before[place])


@pytest.mark.parametrize("fault", ["share", "nesterov", "group", "gradient", "average"])
def test_a_planted_fault_is_noticed(fault):
    cases = [Case(1500, group=1), Case(40), Case(2000)]
    states = run("x86-64", "sgd_ema_in_blocks", cases, 0.1, True)
    check(cases, states, 0.1, True)
    claimed = [Case(1500, group=0), *cases[1:]] if fault == "group" else cases
    if fault in ("gradient", "average"):
        claimed = [Case(1500, group=1), Case(40, gradient=fault != "gradient", average=fault != "average"), Case(2000)]
    with pytest.raises(AssertionError):
        check(claimed, states, 0.1001 if fault == "share" else 0.1, fault != "nesterov")
