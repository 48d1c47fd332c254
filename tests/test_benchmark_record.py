"""What becomes of the benchmarks' ratios: the table, the record, the plot, and the comparison of two records."""

import json
import os
from pathlib import Path
from typing import Any

import compare
import machine
import pytest
from benchmark_groups import CEILINGS, recorded
from machine import describe_machine, nvidia_smi
from matplotlib.axes import Axes
from matplotlib.text import Text
from plot import plot_ratios
from record import Work, file_name, write_record
from table import number, table


def group(name: str, ours: list[float]) -> dict[str, Any]:
    costs = {"plain": [8.0] * len(ours), "ours": ours}
    found: dict[str, Any] = recorded(costs, Work("images/s", 10_000, bytes_moved=1e9), CEILINGS)
    return {**found, "group": name}


def test_the_table_has_a_row_a_subject_and_every_reason() -> None:
    found = {**group("training: cpu", [4.0, 2.0, 4.0]), "left_out": {"kornia": "kornia is not installed"}}
    found["subjects"]["ours"]["note"] = "3 of 3 at 85 % or above"
    heading, title, plain, ours, note, left_out, skipped = table([found], {"bench_x.py::bench_x": "no CUDA device"})
    assert heading.split() == ["median", "p20", "..", "p80", "ratio", "p20", "..", "p80", "cores", "ceiling"]
    assert title == "training: cpu"
    assert plain.split() == ["plain", "1,250", "1,250", "..", "1,250", "images/s", "1.00", "baseline", "12%"]
    assert ours.split() == ["ours", "2,500", "2,500", "..", "4,000", "images/s", "2.00", "2.00", "..", "3.20", "25%"]
    assert plain.index("1.00") == ours.index("2.00", ours.index("images/s"))
    assert note.strip() == "3 of 3 at 85 % or above"
    assert left_out.split(maxsplit=1) == ["kornia", "left out: kornia is not installed"]
    assert skipped.split(maxsplit=1) == ["bench_x.py::bench_x", "skipped: no CUDA device"]


@pytest.mark.parametrize(
    ("value", "text"), [(123456.7, "123,457"), (99.95, "100.0"), (12.34, "12.3"), (1.005e-1, "0.10")]
)
def test_numbers_have_three_digits_or_more(value: float, text: str) -> None:
    assert number(value) == text


def test_the_plot_is_written_however_many_groups_there_are(tmp_path: Path) -> None:
    for count in (1, 30):
        path = tmp_path / f"{count}.png"
        plot_ratios([group(f"group {index}", [4.0, 16.0, 2.0]) for index in range(count)], path)
        assert path.read_bytes().startswith(b"\x89PNG")
    one, thirty = (int.from_bytes((tmp_path / f"{count}.png").read_bytes()[20:24]) for count in (1, 30))
    assert thirty > 3 * one  # pixels of height


def headings_and_labels(groups: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    drawn: list[str] = []
    monkeypatch.setattr(Axes, "text", lambda self, x, y, text, **looks: drawn.append(text) or Text())
    monkeypatch.setattr(Axes, "set_yticks", lambda self, places, labels, **looks: drawn.extend(labels))
    plot_ratios(groups, tmp_path / "plot.png")
    return [text for text in drawn if text]


def test_cases_of_one_subject_share_a_heading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = [group(f"kernel: {case}", [4.0]) for case in ("small", "large")]
    alone = group("step: here", [4.0])
    expected = ["kernel: ours against plain", "step: here, against plain", "small", "large", "ours"]
    assert headings_and_labels([*kernel, alone], tmp_path, monkeypatch) == expected


def test_groups_with_other_baselines_or_more_subjects_keep_their_headings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {**group("kernel: large", [4.0]), "baseline": "ours"}
    three = group("kernel: huge", [4.0])
    three["subjects"]["theirs"] = three["subjects"]["ours"]
    drawn = headings_and_labels([group("kernel: small", [4.0]), other, three], tmp_path, monkeypatch)
    assert drawn[:3] == ["kernel: small, against plain", "kernel: large, against ours", "kernel: huge, against plain"]
    assert drawn[3:] == ["ours", "plain", "ours", "theirs"]


def test_a_file_name_carries_the_conditions() -> None:
    intel = {"cpu": "Intel(R) Xeon(R) CPU @ 2.80GHz", "cpu_count": 2, "gpu": None}
    assert file_name(intel, short=True, part=False) == "bench-2cpu-intel-xeon-2.80ghz-short.json"
    amd = {"cpu": "AMD EPYC 9B45", "cpu_count": 16, "gpu": {"name": "NVIDIA H200"}}
    assert file_name(amd, short=False, part=False) == "bench-16cpu-amd-epyc-9b45-nvidia-h200.json"
    assert file_name(amd, short=False, part=True).endswith("-part.json")


def test_a_record_is_rounded_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, {"machine": {"threads": 2}, "groups": [group("a", [3.0, 3.0])]})
    row = json.loads(path.read_text())["groups"][0]["subjects"]["ours"]
    assert row["ratio"] == {"p20": 2.667, "median": 2.667, "p80": 2.667}
    assert compare.ratios(path) == {"a: ours against plain": row["ratio"]}


def written(path: Path, groups: list[dict[str, Any]]) -> str:
    write_record(path, {"groups": groups})
    return str(path)


def compared(tmp_path: Path, before: list[dict[str, Any]], after: list[dict[str, Any]], *flags: str) -> int:
    return compare.main([written(tmp_path / "a.json", before), written(tmp_path / "b.json", after), *flags])


def test_a_planted_regression_exits_6_and_is_named_first(tmp_path: Path, capsys) -> None:
    before = [group("slower", [2.0, 2.1, 2.0]), group("faster", [2.0, 2.1, 2.0])]
    after = [group("slower", [2.6, 2.5, 2.6]), group("faster", [1.0, 1.1, 1.0])]
    assert compared(tmp_path, before, after) == 6
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].split(maxsplit=4) == ["-23.1%", "4.00", "->", "3.08", "slower: ours against plain"]
    assert lines[1].split(maxsplit=1)[0] == "+100.0%"
    assert lines[2] == "2 ratios compared, 2 changed beyond noise"
    assert "1 ratio(s) fell by more than 10% or are missing" in printed.err
    assert compared(tmp_path, before, after, "--share", "0.3") == 0


def test_noise_is_no_regression(tmp_path: Path, capsys) -> None:
    """The median falls by a third, but the rounds of both spread over it."""
    assert compared(tmp_path, [group("a", [2.0, 2.0, 4.0])], [group("a", [2.0, 3.0, 3.0])]) == 0
    assert capsys.readouterr().out.splitlines() == ["1 ratios compared, 0 changed beyond noise"]


def test_seconds_do_not_matter(tmp_path: Path) -> None:
    """A machine of half the speed has the same ratios."""
    slower = recorded({"plain": [16.0] * 3, "ours": [4.0, 4.2, 4.0]}, Work("images/s", 10_000)) | {"group": "a"}
    assert compared(tmp_path, [group("a", [2.0, 2.1, 2.0])], [slower]) == 0


def test_missing_and_new_cases_are_named(tmp_path: Path, capsys) -> None:
    other_baseline = group("a", [2.0]) | {"baseline": "ours"}
    assert compared(tmp_path, [group("a", [2.0]), group("b", [2.0])], [group("b", [2.0]), other_baseline]) == 6
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["missing  a: ours against plain", "new      a: plain against ours"]


def test_what_is_no_record_exits_3(tmp_path: Path, capsys) -> None:
    (tmp_path / "x.json").write_text("[]")
    for path in (tmp_path / "x.json", tmp_path / "absent.json"):
        assert compare.main([str(path), str(path)]) == 3
        assert f"{path} is no record of benchmarks" in capsys.readouterr().err


def test_the_machine_is_described_as_far_as_it_can_change_a_figure() -> None:
    found = describe_machine((0.5, 1.234, 2.0))
    assert found["load_average"] == [0.5, 1.23, 2.0]
    assert {"cpu", "cpu_count", "allocator", "waiting", "commit", "nvidia_smi", "gpu", "torch_threads"} <= found.keys()
    assert {"torch", "triton", "pytest_benchmark"} <= found["versions"].keys()
    assert json.loads(json.dumps(found)) == found


def test_nvidia_smi_is_read_with_its_units(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "nvidia-smi"
    line = "NVIDIA H200, 580.65.06, 1980 MHz, 3201 MHz, 1980 MHz, 700.00 W"
    script.write_text(f"#!/bin/sh\ntest \"$1\" = --query-gpu={','.join(machine.GPU_FIELDS)} && echo '{line}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (gpu,) = nvidia_smi()
    assert (gpu["name"], gpu["driver_version"], gpu["power.limit"]) == ("NVIDIA H200", "580.65.06", "700.00 W")
    script.write_text("#!/bin/sh\nexit 9\n")
    assert nvidia_smi() == []
