"""The benchmark of whole trainings, none of which is run here."""

from statistics import stdev
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


def epoch(number: int, accuracy: float | None) -> dict[str, Any]:
    return {"val_accuracy": accuracy, "train_time_s": 10.0 * number}


def test_a_seed_tells_both_its_last_accuracy_and_when_it_had_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three seeds the first has 85 % after 40 s of 50 and loses it again, the second never, the third at the end."""
    histories = [
        [epoch(1, None), epoch(4, 85.0), epoch(5, 84.5)],
        [epoch(4, 84.9), epoch(5, 84.99)],
        [epoch(4, None), epoch(5, 85.5)],
    ]
    calls = []

    def train(*flags: str) -> dict[str, Any]:
        seed = int(flags[flags.index("--seed") + 1])
        calls.append(seed)
        return {
            "val_acc": histories[seed][-1]["val_accuracy"],
            "train_time_s": 50.0,
            "cold_time_s": 60.0,
            "warmup_time_s": 0.0,
            "images_per_second": 1.0,
            "epochs": 5,
            "parameters": 5,
            "used": {"device": "cpu"},
            "history": histories[seed],
        }

    monkeypatch.setattr(benchmark_file, "train", train)
    benchmark = PretendedBenchmark()
    benchmark_file.bench_time_to_85_percent(Measure(benchmark, lambda device: CEILINGS, short=False), request(3))
    assert calls == [0, 1, 2]
    (row,) = benchmark.extra_info["in_turn"]["subjects"].values()
    assert row["costs"] == [50.0, 50.0, 50.0]
    assert [result["time_to_target_s"] for result in row["results"]] == [40.0, None, 50.0]
    width = student_t.ppf(0.975, 2) * stdev([84.5, 84.99, 85.5]) / 3**0.5
    later = student_t.ppf(0.975, 1) * stdev([40, 50]) / 2**0.5
    assert f"2 of 3 had 85 % after 45.0 +- {later:.1f} s; last epoch 85.00 +- {width:.2f} %" in row["note"]
