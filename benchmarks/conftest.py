"""What the benchmarks share: their options, threads and fixtures, and the table, record and plot at the end."""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from ceilings import Ceilings, measure_ceilings
from machine import describe_machine
from measure import Measure
from plot import plot_ratios
from record import file_name, write_record
from scaling_plot import plot_scaling
from table import table

LOAD_AVERAGE = pytest.StashKey[tuple[float, float, float]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastcifar's benchmarks")
    group.addoption("--short", action="store_true", help="The first, smallest case of each, and a few rounds.")
    group.addoption("--record", type=Path, metavar="FOLDER", help="Write the ratios there, as JSON and as a plot.")
    group.addoption(
        "--time-to-accuracy-runs", type=int, default=0, metavar="N", help="Seeds to train to 85 %%, minutes each."
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LOAD_AVERAGE] = os.getloadavg()
    config.option.benchmark_quiet = True  # its own table would give the seconds of whole rounds, all subjects together


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.short:
        return
    first: dict[str, pytest.Item] = {}
    for item in items:
        first.setdefault(item.nodeid.partition("[")[0], item)
    config.hook.pytest_deselected(items=[item for item in items if item not in first.values()])
    items[:] = first.values()


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info["fastcifar"] = describe_machine(config.stash[LOAD_AVERAGE])


@pytest.fixture(scope="session", autouse=True)
def _prepared() -> None:
    """As many threads as a training run would use, and its settings of the GPU."""
    from fastcifar.config import RuntimeConfig
    from fastcifar.runtime import choose_runtime, prepare

    prepare(choose_runtime(RuntimeConfig()), deterministic=False)


@pytest.fixture(scope="session")
def short(pytestconfig: pytest.Config) -> bool:
    """Whether to take as few images as show that the code works."""
    return pytestconfig.option.short


@pytest.fixture(scope="session")
def ceilings() -> Callable[[str], Ceilings]:
    """Of a type of device, on as many threads as torch is set to; each measured once a session."""
    measured = cache(lambda device, threads: measure_ceilings(device))
    return lambda device: measured(device, torch.get_num_threads())


@pytest.fixture
def measure(benchmark: Any, ceilings: Callable[[str], Ceilings], short: bool) -> Measure:
    """Checks, measures and records a group, see `Measure`."""
    return Measure(benchmark, ceilings, short)


@pytest.fixture(params=[None, 1], ids=["all threads", "1 thread"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads while a benchmark runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param or before)
    yield torch.get_num_threads()
    torch.set_num_threads(before)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    session = getattr(config, "_benchmarksession", None)
    groups = [one.extra_info["in_turn"] for one in session.benchmarks if not one.has_error] if session else []
    skipped = {
        _case(report): report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped")
    }
    if not groups and not (session and session.only):
        return
    machine = describe_machine(config.stash[LOAD_AVERAGE])
    terminalreporter.section(f"ratios, in turn ({machine['torch_threads']} threads, malloc {machine['allocator']})")
    for line in table(groups, skipped):
        terminalreporter.write_line(line)
    folder: Path | None = config.option.record
    if folder is None or not groups:
        return
    record = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": machine,
        "groups": groups,
        "skipped": skipped,
        "failed": [_case(report) for report in terminalreporter.getreports("failed")],
    }
    path = folder / file_name(machine, config.option.short, _is_part(config))
    write_record(path, record)
    along_an_axis = [group for group in groups if group["axis"]]
    compared = [group for group in groups if not group["axis"]]
    if compared:
        plot_ratios(compared, path.with_suffix(".png"))
    if along_an_axis:
        plot_scaling(along_an_axis, path.with_name(f"{path.stem}-scaling.png"))
    terminalreporter.write_line(f"{path}, and the plots beside it")


def _case(report: pytest.TestReport) -> str:
    return report.nodeid.rpartition("/")[2]


def _is_part(config: pytest.Config) -> bool:
    """Whether -k, -m, a file or a case was named: such a record must not take the place of a whole one."""
    return bool(config.option.keyword or config.option.markexpr or any(".py" in argument for argument in config.args))
