"""The tables of measured plans in the cache: where they lie, how they grow, and that a run uses them."""

import json
from pathlib import Path

import pytest
import torch

from fastcifar import runtime as runtime_module
from fastcifar.errors import UsageError
from fastcifar.plans import plans_file, save_plans, use_measured_plans
from fastcifar.runtime import Runtime, prepare
from fastcifar_kernels.depthwise_pointwise import plan
from fastcifar_kernels.depthwise_pointwise.shape import Shape, default_tiling

SHAPE = Shape(256, 8, 8, 96, 96, 2, 1)
LINE = plan.entry(default_tiling(SHAPE), 1.0, 2.0)
NAME = "NVIDIA H200 (80GB/SXM)"
GPU = torch.device("cuda", 0)

pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_MEASURED", {})
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: NAME)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


def started(device: torch.device) -> None:
    precision = torch.get_float32_matmul_precision()
    benchmark = torch.backends.cudnn.benchmark
    try:
        prepare(Runtime(device, torch.bfloat16, False, torch.get_num_threads(), {}), deterministic=False)
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.benchmark = benchmark


def test_a_file_for_each_gpu(tmp_path: Path) -> None:
    assert plans_file(NAME) == tmp_path / "cache" / "kernels" / "nvidia-h200-80gb-sxm.json"


def test_a_table_keeps_other_shapes_and_replaces_the_same(tmp_path: Path) -> None:
    save_plans(NAME, {"a": LINE | {"torch": "2.11"}, "b": LINE})
    file = save_plans(NAME, {"b": LINE | {"plain_us": 7.0}})
    assert json.loads(file.read_text()) == {
        "gpu": NAME,
        "plans": {"a": LINE | {"torch": "2.11"}, "b": LINE | {"plain_us": 7.0}},
    }
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("content", ["{", json.dumps({"gpu": "Another", "plans": {"a": LINE}})])
def test_a_table_of_no_use_is_written_anew(content: str) -> None:
    file = plans_file(NAME)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    save_plans(NAME, {"b": LINE})
    assert json.loads(file.read_text())["plans"].keys() == {"b"}


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UsageError, match="cache"):
        save_plans(NAME, {"a": LINE})


def test_a_run_on_a_gpu_uses_what_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    save_plans(NAME, {plan.key(SHAPE, torch.bfloat16): LINE})
    plan._MEASURED.clear()
    started(GPU)
    assert plan._MEASURED[plan.key(SHAPE, torch.bfloat16)].fused
    assert capsys.readouterr().err == ""


def test_a_broken_table_is_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    file = save_plans(NAME, {plan.key(SHAPE, torch.bfloat16): LINE})
    file.write_text(file.read_text()[:-9])
    started(GPU)
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {file}: ")
    assert said.count("\n") == 1
    assert plan._MEASURED == {}
    file.unlink()
    file.mkdir()
    assert str(file) in use_measured_plans(GPU)


def test_a_run_on_a_cpu_looks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "use_measured_plans", lambda device: pytest.fail("looked for a table"))
    started(torch.device("cpu"))
