"""The profile of a run: files that others can read, and a table that names what ran."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from training_runs import Recorder, assert_same_weights, make_material, run, weights

from fastcifar.dataset.image_set import Dataset
from fastcifar.training.profile import PROFILED, ROWS, SKIPPED, StepProfile

ONES = 7
"""Calls of `ones` a step, which nothing else here calls."""

SETTINGS = ["runtime.profile=false", "runtime.profile=true"]


def run_steps(profile: StepProfile, count: int) -> list[bool]:
    model = nn.Conv2d(3, 8, 3)
    done = []
    for _ in range(count):
        model(torch.randn(2, 3, 16, 16)).sum().backward()
        for _ in range(ONES):
            torch.ones(3)
        done.append(profile.step_done())
    return done


def test_trace_and_table(tmp_path: Path) -> None:
    profile = StepProfile(tmp_path / "profile", torch.device("cpu"))
    done = run_steps(profile, SKIPPED + PROFILED + 3)
    assert [number for number, last in enumerate(done, start=1) if last] == [SKIPPED + PROFILED]
    assert sorted(path.name for path in (tmp_path / "profile").iterdir()) == ["top.txt", "trace.json.gz"]
    with gzip.open(tmp_path / "profile" / "trace.json.gz", "rt") as file:
        events = json.load(file)["traceEvents"]
    assert sum(event.get("name") == "aten::ones" for event in events) == ONES * PROFILED
    lines = (tmp_path / "profile" / "top.txt").read_text().splitlines()
    assert lines == profile.table()
    assert len(lines) <= ROWS + 2
    rows = [line.split() for line in lines[2:]]
    times = [float(row[0]) for row in rows]
    assert times == sorted(times, reverse=True)
    assert {row[3]: float(row[2]) for row in rows}["aten::convolution_backward"] == 1.0
    assert sum(float(row[1].rstrip("%")) for row in rows) <= 100.5


def test_a_run_that_ends_inside_its_profile_writes_nothing(tmp_path: Path) -> None:
    profile = StepProfile(tmp_path / "profile", torch.device("cpu"))
    run_steps(profile, SKIPPED + 2)
    profile.abandon()
    assert list(tmp_path.iterdir()) == []
    # nothing goes on recording: another profile can begin
    other = StepProfile(tmp_path / "other", torch.device("cpu"))
    assert run_steps(other, SKIPPED + PROFILED)[-1]


@pytest.mark.parametrize("count", [0, SKIPPED - 1])
def test_abandoned_before_it_began(tmp_path: Path, count: int) -> None:
    profile = StepProfile(tmp_path, torch.device("cpu"))
    run_steps(profile, count)
    profile.abandon()
    assert list(tmp_path.iterdir()) == []


def test_a_profiled_run_trains_as_any_other(colours: Dataset, tmp_path: Path) -> None:
    plain, profiled = (run(make_material(colours, setting), tmp_path) for setting in SETTINGS)
    assert_same_weights(weights(plain["run_dir"]), weights(profiled["run_dir"]))
    folder = Path(profiled["run_dir"]) / "profile"
    assert sorted(path.name for path in folder.iterdir()) == ["top.txt", "trace.json.gz"]
    assert not (Path(plain["run_dir"]) / "profile").exists()


def test_a_run_too_short_for_a_profile_says_so(colours: Dataset, tmp_path: Path) -> None:
    recorder = Recorder()
    run(make_material(colours, SETTINGS[1], "schedule.epochs=1"), tmp_path, recorder)
    assert [warning for warning in recorder.warnings if "no profile" in warning]
