"""The method of the benchmarks: order, costs and ratios by a clock that is made up, and the gate before any timing."""

from collections.abc import Callable
from types import SimpleNamespace

import in_turn
import pytest
import torch
from benchmark_groups import CEILINGS, PretendedBenchmark, recorded
from in_turn import InTurn, Spread
from measure import Measure, agree
from record import Work


class Machine:
    """A clock, and subjects that let it advance; `calls` lists them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def clock(self) -> float:
        return self.now

    def subject(self, name: str, seconds: Callable[[], float]) -> Callable[[], None]:
        def run() -> None:
            self.calls.append(name)
            self.now += seconds()

        return run


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_every_other_round_runs_backwards(machine: Machine) -> None:
    subjects = {name: machine.subject(name, lambda: 1.0) for name in "abc"}
    measured = InTurn(subjects, "a", clock=machine.clock)
    assert measured.warm_up() == 3.0
    machine.calls.clear()
    for _ in range(3):
        measured.round()
    assert "".join(machine.calls) == "abccbaabc"


def test_a_ratio_is_taken_within_a_round(machine: Machine) -> None:
    """The machine drifts by a factor of ten; what is three times as fast in every round stays so."""
    drift = iter([1, 1, 10, 10, 2, 2])
    slow, fast = machine.subject("slow", lambda: 3.0 * next(drift)), machine.subject("fast", lambda: 1.0 * next(drift))
    measured = InTurn({"slow": slow, "fast": fast}, "slow", clock=machine.clock)
    for _ in range(3):
        measured.round()
    assert measured.costs == {"slow": [3.0, 30.0, 6.0], "fast": [1.0, 10.0, 2.0]}
    assert measured.ratios("fast") == [3.0, 3.0, 3.0]
    assert measured.ratios("slow") == [1.0, 1.0, 1.0]


def test_a_quick_subject_is_called_until_a_turn_is_long(machine: Machine) -> None:
    subjects = {"quick": machine.subject("quick", lambda: 0.003), "slow": machine.subject("slow", lambda: 0.5)}
    measured = InTurn(subjects, "slow", clock=machine.clock)
    measured.warm_up()
    machine.calls.clear()
    measured.round()
    assert (machine.calls.count("quick"), machine.calls.count("slow")) == (8, 1)
    assert measured.costs["quick"] == [pytest.approx(0.003)]
    assert measured.ratios("quick") == [pytest.approx(0.5 / 0.003)]


def test_the_clock_waits_for_the_device(machine: Machine) -> None:
    """Work that is only begun by the call, and done when somebody waits for it, counts wholly and where it belongs."""
    pending = [0.0]

    def begin() -> None:
        pending[0] += 2.0

    def wait() -> None:
        machine.now += pending[0]
        pending[0] = 0.0

    subjects = {"device": begin, "host": machine.subject("host", lambda: 1.0)}
    measured = InTurn(subjects, "host", clock=machine.clock, synchronize=wait)
    for _ in range(2):
        measured.round()
    assert measured.costs == {"device": [2.0, 2.0], "host": [1.0, 1.0]}


def test_a_cost_may_be_what_a_call_returns() -> None:
    measured = InTurn({"a": lambda: 300, "b": lambda: 100}, "a", returned=True)
    measured.round()
    assert measured.ratios("b") == [3.0]
    assert measured.cores("a") is None


def test_the_baseline_is_one_of_the_subjects() -> None:
    with pytest.raises(ValueError, match="the baseline 'c' is none of a, b"):
        InTurn({"a": print, "b": print}, "c")


def test_processor_time_counts_the_cores_that_are_busy(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_turn, "cpu_seconds", lambda: 1.5 * machine.now)
    measured = InTurn({"a": machine.subject("a", lambda: 2.0)}, "a", clock=machine.clock)
    measured.round()
    assert measured.cores("a") == pytest.approx(1.5)


def test_processor_time_is_that_of_the_process() -> None:
    before = in_turn.cpu_seconds()
    sum(range(3_000_000))
    assert in_turn.cpu_seconds() > before


@pytest.mark.parametrize(
    ("round_s", "short", "rounds"), [(1e-3, False, 20), (0.2, False, 10), (60, False, 5), (60, True, 5)]
)
def test_rounds_fit_the_time(round_s: float, short: bool, rounds: int) -> None:
    assert in_turn.rounds_for(round_s, short) == rounds


def test_percentiles_are_those_of_the_definition() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0, 0.0]) == (1.0, 2.5, 4.0)


def test_a_record_gives_rates_ratios_and_the_distance_from_the_floor() -> None:
    record = recorded({"plain": [4.0, 4.0], "ours": [2.0, 1.0]}, Work("images/s", 512, bytes_moved=5e8, flops=2e9))
    row = record["subjects"]["ours"]
    assert row["shown"]["median"] == pytest.approx((256 + 512) / 2)
    assert row["ratio"] == {"p20": pytest.approx(2.4), "median": 3.0, "p80": pytest.approx(3.6)}
    assert (row["floor_s"], row["bound"]) == (0.5, "bytes")
    assert row["share_of_ceiling"] == pytest.approx(0.5 / 1.5)
    assert row["gb_per_s"] == pytest.approx(0.5 / 1.5)
    assert row["gflop_per_s"] == pytest.approx(2 / 1.5)


def test_operations_may_bound_the_floor() -> None:
    assert CEILINGS.floor_s(1e8, 5e9) == (0.5, "operations")
    assert "floor_s" not in recorded({"a": [1.0]}, Work("s"), None)["subjects"]["a"]


@pytest.mark.parametrize(
    ("unit", "shown"), [("images/s", 2.0), ("µs", 5e5), ("ms", 500.0), ("s", 0.5), ("MiB", 2.0**-21)]
)
def test_units_are_of_one_piece_of_the_work(unit: str, shown: float) -> None:
    assert Work(unit, amount=4).shown(2.0) == pytest.approx(shown)


def test_a_red_gate_gives_no_figure() -> None:
    """A subject that leaves out a row of the maps is found before anything is timed."""
    benchmark, calls = PretendedBenchmark(), []
    truth = torch.randn(8, 3, 16, 16)

    def wrong() -> torch.Tensor:
        calls.append("wrong")
        found = truth.clone()
        found[:, :, 0] = 0
        return found

    subjects = {"reference": lambda: truth, "wrong": wrong}
    measure = Measure(benchmark, lambda device: CEILINGS, short=True)
    with pytest.raises(AssertionError, match="wrong: result 0 differs from that of reference"):
        measure("a group", subjects, baseline="reference", check=agree(subjects, "reference", 1e-3))
    assert calls == ["wrong"]
    assert benchmark.extra_info == {}


@pytest.mark.parametrize("fault", [torch.tensor([[1.0, torch.nan]]), torch.ones(2, 2), torch.tensor([[1.0, 1.01]])])
def test_the_gate_sees_nan_and_other_shapes_and_small_differences(fault: torch.Tensor) -> None:
    results = {"reference": lambda: torch.ones(1, 2), "other": lambda: fault}
    with pytest.raises(AssertionError, match="other"):
        agree(results, "reference", 1e-3)()


def test_the_gate_lets_pass_what_agrees_and_calls_each_once() -> None:
    calls = []

    def result(name: str, value: float) -> Callable[[], list[torch.Tensor | None]]:
        return lambda: calls.append(name) or [torch.full((4,), value), None]

    agree({"a": result("a", 1.0), "b": result("b", 1.0001)}, "a", 1e-3)()
    assert calls == ["a", "b"]


def test_a_green_gate_gives_a_record_in_the_test_s_information() -> None:
    benchmark = PretendedBenchmark()
    subjects = {"a": lambda: torch.ones(2), "b": lambda: torch.ones(2)}
    measure = Measure(benchmark, lambda device: CEILINGS, short=True)
    check = agree(subjects, "a", 1e-3)
    record = measure("group", subjects, baseline="a", check=check, work=Work(bytes_moved=8), left_out={"c": "absent"})
    assert benchmark.group == "group"
    assert benchmark.extra_info["in_turn"] is record
    assert [len(row["costs"]) for row in record["subjects"].values()] == [in_turn.SHORT_ROUNDS] * 2
    assert record["left_out"] == {"c": "absent"}
    assert record["ceilings"]["bytes_per_s"] == 1e9


def test_without_its_baseline_a_group_is_skipped() -> None:
    measure = Measure(SimpleNamespace(), lambda device: CEILINGS, short=True)
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        measure("g", {"b": print}, baseline="a", check=print, left_out={"a": "a is not installed"})
