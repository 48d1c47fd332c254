"""`fastcifar tune` as a user types it: without a GPU one line, on a stand-in a table."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from test_cli import Cli, cli  # noqa: F401 - the fixture
from test_runtime import without_gpu

from fastcifar import gpu_timing, plans, tuning
from fastcifar import runtime as runtime_module
from fastcifar.runtime import Choice, Runtime
from fastcifar_kernels.depthwise_pointwise import plan


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU as a GPU that the kernels are for, on which a fused layer is faster, slower, or does not run, in turn."""
    pytest.importorskip("triton", reason="triton is not installed")
    choices = {"amp": Choice("on", "bf16", "a stand-in")}
    runtime = Runtime(torch.device("cpu"), torch.bfloat16, False, torch.get_num_threads(), choices)
    monkeypatch.setattr(runtime_module, "choose_runtime", lambda config: runtime)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(tuning, "tunable", lambda shapes, dtype, device: shapes)
    monkeypatch.setattr(plan, "_MEASURED", {})
    times = itertools.cycle([[10e-6, 25e-6], [30e-6, 25e-6], [math.inf, 25e-6]])
    monkeypatch.setattr(gpu_timing, "gpu_seconds", lambda works: next(times) if len(works) == 2 else [1.0] * len(works))


SMALL = ["tune", "--batch-size", "2", "--image-size"]


def test_it_prints_a_table_and_keeps_it(cli: Cli, stand_in: None) -> None:  # noqa: F811
    code, out, err = cli(*SMALL, "32")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("A GPU, bfloat16")
    assert lines[2].split() == ["shape", "fused", "plain", "ratio", "chosen"]
    assert " ".join(lines[3].split()) == "2x8x8 96->96 stride 2 dilation 1 10.0 25.0 2.50 fused"
    assert " ".join(lines[4].split()) == "2x4x4 96->96 stride 1 dilation 2 30.0 25.0 0.83 plain"
    file = plans.plans_file("A GPU")
    assert lines[-1] == f"kept in {file}"
    assert len(json.loads(file.read_text())["plans"]) == 2


def test_as_json(cli: Cli, stand_in: None) -> None:  # noqa: F811
    code, out, err = cli(*SMALL, "32", "--image-size", "8", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert (record["gpu"], record["precision"]) == ("A GPU", "bf16")
    assert [line["chosen"] for line in record["plans"]] == ["fused", "plain", "plain", "fused"]
    assert [line["fused_us"] for line in record["plans"]] == pytest.approx([10.0, 30.0, None, 10.0])
    assert Path(record["file"]).is_file()


@without_gpu
@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ([], 4, "nothing to tune"),
        (["--device", "cpu"], 4, "nothing to tune"),
        (["--device", "cuda"], 4, "no NVIDIA GPU"),
        (["--model", "all", "--image-size", "8", "--image-size", "64"], 4, "nothing to tune"),
        (["--model", "resnet50"], 2, "c1c2c3c40-speed"),
        (["--recipe", "spede"], 2, "speed"),
        (["--batch-size", "0"], 2, "batch_size"),
        (["--precision", "fp8"], 2, "fp8"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
    arguments: list[str],
    code: int,
    named: str,
) -> None:
    got, out, err = cli("tune", *arguments)
    assert (got, out) == (code, "")
    assert named in err
    assert err.startswith("fastcifar: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "cache").exists()
