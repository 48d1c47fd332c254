"""The benchmark of whole trainings, none of which is run here."""

from types import SimpleNamespace
from typing import Any

import bench_time_to_accuracy as benchmark_file
import pytest
from benchmark_groups import CEILINGS, PretendedBenchmark
from measure import Measure
from scipy.stats import t as student_t


def request(runs: int) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(getoption={"time_to_accuracy_runs": runs}.__getitem__), getfixturevalue=lambda name: None
    )


def test_whole_trainings_are_run_only_when_asked_for() -> None:
    measure = Measure(PretendedBenchmark(), lambda device: CEILINGS, short=False)
    with pytest.raises(pytest.skip.Exception, match="--time-to-accuracy-runs N"):
        benchmark_file.bench_time_to_85_percent(measure, request(0))


def test_seeds_are_trained_in_turn_and_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a target a seed takes 40 s and without 50 s; one of three seeds misses it and takes all its time."""
    calls = []

    def train(*flags: str) -> dict[str, Any]:
        seed, stops = int(flags[flags.index("--seed") + 1]), "--target" in flags
        calls.append((seed, stops))
        reached = seed != 1
        return {
            "val_acc": 85.5 if reached else 84.5,
            "train_time_s": 40.0 if stops and reached else 50.0,
            "time_to_target_s": 40.0 if stops and reached else None,
            "cold_time_s": 60.0,
            "warmup_time_s": 0.0,
            "images_per_second": 1.0,
            "epochs": 10,
            "used": {},
        }

    monkeypatch.setattr(benchmark_file, "train", train)
    benchmark = PretendedBenchmark()
    benchmark_file.bench_time_to_85_percent(Measure(benchmark, lambda device: CEILINGS, short=False), request(3))
    assert calls == [(0, False), (0, True), (1, True), (1, False), (2, False), (2, True)]
    rows = benchmark.extra_info["in_turn"]["subjects"]
    row = rows["stops at the target"]
    assert row["costs"] == [40.0, 50.0, 40.0]
    assert row["ratio"]["median"] == pytest.approx(1.25)
    width = student_t.ppf(0.975, 2) * (1 / 3) ** 0.5 / 3**0.5  # of 85.5, 84.5, 85.5
    assert f"2 of 3 at 85 % or above, accuracy 85.17 +- {width:.2f} %" in row["note"]
    assert [result["val_acc"] for result in row["results"]] == [85.5, 84.5, 85.5]
