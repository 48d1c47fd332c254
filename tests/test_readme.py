"""The README's promises: its commands parse, its files exist, its table is what was recorded."""

import json
import re
import shlex
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from typer.main import get_command

from fastcifar.cli import app
from fastcifar.settings import recipe_names

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_linked_files_exist() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(targets) > 8
    assert [target for target in targets if not (ROOT / target).exists()] == []


def commands() -> list[str]:
    indented = [line.strip() for line in README.splitlines() if line.startswith("    ")]
    quoted = re.findall(r"`((?:fastcifar|make) [^`]+)`", README)
    return [c for c in indented + quoted if re.match(r"(\S+=\S+ )?(\.venv/bin/)?(fastcifar|make) ", c)]


@pytest.mark.parametrize("command", commands())
def test_commands_are_real(command: str) -> None:
    words = [word for word in shlex.split(command) if "=" not in word or word.startswith("-")]
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    click_command = get_command(app).commands[words[1]]  # pyright: ignore[reportAttributeAccessIssue]
    if words[1] == "data":
        assert words[2].rstrip(",") in click_command.commands
        return
    click_command.make_context(words[1], words[2:])


def test_every_recipe_is_named() -> None:
    recipes = README.split("| recipe |")[1].split("\n\n")[0]
    table = set(re.findall(r"^\| `([\w-]+)`", recipes, re.MULTILINE))
    assert table == set(recipe_names())


def recorded_result(record: dict[str, Any]) -> dict[str, Any]:
    """Of `fastcifar train --json`; or the means over the seeds that a benchmark trained to the end."""
    if "result" in record:
        return record["result"]
    (group,) = record["groups"]
    (subject,) = group["subjects"].values()
    runs = subject["results"]
    means = {key: mean(run[key] for run in runs) for key in ("val_acc", "train_time_s", "parameters")}
    means["parameters"] = int(means["parameters"])
    return means | {"val_acc_std": stdev(run["val_acc"] for run in runs), "runs": len(runs)}


def test_the_result_table_is_what_was_recorded() -> None:
    rows = re.findall(r"^\|.*\[record\]\((benchmarks/results/[^)]+)\).*$", README, re.MULTILINE)
    assert rows
    for path in rows:
        (row,) = (line for line in README.splitlines() if path in line)
        result = recorded_result(json.loads((ROOT / path).read_text()))
        assert f"{result['val_acc']:.2f}" in row
        assert f"{result['train_time_s']:.0f} s" in row
        assert f"{result['parameters']:,}" in row
        if "runs" in result:
            assert f"{result['val_acc_std']:.2f}" in row
            assert f"{result['runs']} runs" in row


def test_the_parity_table_is_what_was_recorded() -> None:
    record = json.loads((ROOT / "benchmarks/results/parity-cpu.json").read_text())
    assert record["holds"]
    assert f"{record['images']:,} {record['dataset']}" in README
    assert f"DALI {record['versions']['dali']}" in README
    for found in record["differences"]:
        (row,) = re.findall(rf"^\| {found['transform']} \| {found['border'] or '-'} \| (.*) \|$", README, re.MULTILINE)
        cell = row.split(" | ")[("dali", "torch").index(found["backend"])]
        exact = found["largest"] == 0
        assert cell == ("0" if exact else f"{found['largest']:g} in {found['share']:.1e} of the values")


def gain(group: str, subject: str) -> float:
    """Recorded ratio to the baseline; group: how its name begins."""
    record = json.loads((ROOT / "benchmarks/results/bench-2cpu-intel-xeon-2.80ghz.json").read_text())
    (found,) = (one for one in record["groups"] if one["group"].startswith(group))
    return found["subjects"][subject]["ratio"]["median"]


def test_the_loaders_gains_are_those_that_were_recorded() -> None:
    names = {
        "`resident`": "fastcifar resident",
        "`workers`": "fastcifar workers, 2 workers",
        "`dali`": "fastcifar dali, arrays",
        "torchvision": "torchvision v2, 2 workers",
    }
    for word, name in names.items():
        digits = 2 if word == "torchvision" else 1
        assert f"{word} {gain('augmentation: cpu, cifar10', name):.{digits}f}" in README
    assert f"{gain('augmentation: cpu, cifar10', 'fastcifar dali, png'):.1f} from PNG" in README


def test_the_operators_gains_are_those_that_were_recorded() -> None:
    operators = README.split("## Fused operators")[1].split("\n\n")[2]
    assert f"{gain('augment: cpu, 2 threads, 32 pixels, float32', 'fused'):.1f} times plain torch at 32" in operators
    assert f"{gain('sgd_ema: cpu, 2 threads', 'one launch'):.1f} times `SGD(fused=True)`" in operators
    layer = gain("depthwise backward, 2 threads: speed, [512, 96, 4, 4], stride 1, dilation 2", "one pass")
    assert f"{layer:.0f} times oneDNN's at 4 x 4" in operators
    steps = [gain(f"step: cpu, c1c2c3c40-speed, {size} pixels", "fp32") for size in (16, 32)]
    assert "{:.2f} times as fast at 16 pixels and {:.2f} times at 32".format(*steps) in README
