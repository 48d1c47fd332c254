"""What the benchmarks share: threads, and a table of ratios at the end."""

from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest
import side_by_side
import torch


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    """As many threads as a training run would use."""
    from fastcifar.config import RuntimeConfig
    from fastcifar.runtime import choose_runtime, prepare

    prepare(choose_runtime(RuntimeConfig(device="cpu")), deterministic=False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--time-to-accuracy-runs", type=int, default=1, help="Seeds that bench_time_to_accuracy.py trains to 85 %."
    )


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """For each group, images per second and the ratio to the group's first entry."""
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    if session is None or not session.benchmarks:
        return
    from fastcifar.allocator import allocator_state

    machine = f"{torch.get_num_threads()} CPU threads, malloc {allocator_state()[0]}"
    terminalreporter.section(f"images per second, medians ({machine})")
    baselines: dict[str, float] = {}
    for benchmark in session.benchmarks:
        if "side_by_side" in benchmark.extra_info:
            terminalreporter.write_line(benchmark.group)
            for line in side_by_side.table(benchmark.extra_info["side_by_side"]):
                terminalreporter.write_line(line)
        for name, time_us in benchmark.extra_info.get("microseconds", {}).items():
            terminalreporter.write_line(f"{benchmark.name:<44} {name:<22} {time_us:>10,.1f} microseconds")
        for line in time_to_accuracy_lines(benchmark.extra_info):
            terminalreporter.write_line(line)
        images = benchmark.extra_info.get("images")
        if images is None:
            continue
        rate = images / benchmark.stats.median
        baseline = baselines.setdefault(benchmark.group, rate)
        name = benchmark.params["subject"] if benchmark.params else benchmark.name
        terminalreporter.write_line(f"{benchmark.group:<44} {name:<22} {rate:>10,.0f}  x {rate / baseline:.2f}")
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(
            f"{report.nodeid.rpartition('::')[2]:<67} left out: {report.longrepr[2].removeprefix('Skipped: ')}"
        )


def time_to_accuracy_lines(extra_info: dict[str, Any]) -> Iterator[str]:
    """What `bench_time_to_accuracy.py` found, whole trainings and peers."""
    if found := extra_info.get("time_to_accuracy"):
        reached = f"{found['at_least_85']} of {found['runs']} at 85 % or above"
        yield f"training ended {found['end']}: {reached}, accuracy {_mean(found['accuracy'], 2)} %"
        cold = _mean(found["cold_seconds"], 1)
        yield f"    training {_mean(found['seconds'], 1)} s, from the start of the process {cold} s"
    for name, row in extra_info.get("peers", {}).items():
        rate = median(row["images_per_second"])
        spread = f"({min(row['images_per_second']):,.0f} .. {max(row['images_per_second']):,.0f})"
        derived = row["seconds_to_85_derived"]
        told = f"{derived:>10,.0f} s to 85 % (its author's {row['epochs_of_its_author']} epochs)" if derived else ""
        yield f"{name:<44} {rate:>8,.0f} images/s {spread:>18} {told}"


def _mean(interval: dict[str, float | None], digits: int) -> str:
    """Mean and half width of the 95 % interval."""
    centre, width = interval["mean"], interval["half_width"]
    if centre is None:
        return "-"
    return f"{centre:.{digits}f}" if width is None else f"{centre:.{digits}f} +- {width:.{digits}f}"
