"""What the benchmarks share: threads, and a table of ratios at the end."""

import pytest
import side_by_side
import torch


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    """As many threads as a training run would use."""
    from fastcifar.config import RuntimeConfig
    from fastcifar.runtime import choose_runtime, prepare

    prepare(choose_runtime(RuntimeConfig(device="cpu")), deterministic=False)


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
