"""What `fastcifar doctor` says of the operators: who serves, and which layers a GPU fuses."""

from pathlib import Path

import pytest
import torch

from fastcifar.doctor import _kernel, _plans
from fastcifar.plans import save_plans
from fastcifar.runtime import Runtime, choose_runtime
from fastcifar.settings import resolve
from fastcifar_kernels import backend
from fastcifar_kernels.backend import Backend
from fastcifar_kernels.depthwise_pointwise import plan
from fastcifar_kernels.depthwise_pointwise.shape import Shape, default_tiling

pytestmark = pytest.mark.usefixtures("clean_environment")
GPU = Runtime(torch.device("cuda", 0), torch.bfloat16, False, 1, {})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """An H200-like one, as far as the plan asks."""
    monkeypatch.setattr(plan, "_MEASURED", {})
    monkeypatch.setattr(backend, "triton_missing", lambda: "")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(plan.Machine, "of", staticmethod(lambda device: plan.Machine(4.3e12, 29.7e12, 132)))


def test_plain_torch_by_choice_needs_no_mending_and_for_want_of_a_library_does() -> None:
    chosen = _kernel(Backend("depthwise_pointwise", "cpu", "torch", "it is faster"))
    assert (chosen.status, chosen.found, chosen.mend) == ("ok", "plain torch: it is faster", "")
    missing = _kernel(Backend("augment", "cpu", "none", "no C++17 compiler was found"))
    assert (missing.status, missing.found) == ("note", "plain torch: no C++17 compiler was found")
    assert "g++" in missing.mend
    assert _kernel(Backend("augment", "cuda", "triton", "why")).found == "triton: why"


def test_on_a_cpu_one_line_says_that_the_plain_convolutions_serve() -> None:
    from fastcifar_kernels.depthwise_pointwise import BACKENDS

    finding = _kernel(BACKENDS["cpu"])
    assert (finding.status, finding.mend) == ("ok", "")
    assert finding.found.startswith("plain torch: two convolutions")
    runtime = choose_runtime(resolve(flags={"runtime.device": ("--device", "cpu")}).config.runtime)
    assert runtime.choices["depthwise_pointwise"].used == "plain torch"
    assert _plans(runtime) == []


def test_on_a_gpu_each_shape_has_a_line(gpu: None) -> None:
    batch = resolve("speed", environment={}).config.training.batch_size
    shape = Shape(batch, 4, 4, 96, 96, 1, 2)
    save_plans("A GPU", {plan.key(shape, torch.bfloat16): plan.entry(default_tiling(shape), 7.0, 9.0)})
    findings = _plans(GPU)
    assert len(findings) == len({finding.found for finding in findings}) == 10
    assert {finding.status for finding in findings} == {"ok"}
    mends = {finding.found: finding.mend for finding in findings}
    assert mends.pop(f"{batch}x4x4 96->96 stride 1 dilation 2: fused") == "measured: 7 us fused, 9 us plain"
    assert all(mend.startswith("modelled, not measured: ") for mend in mends.values())
    full = Runtime(GPU.device, None, False, 1, {})
    assert all("tensor cores" in finding.mend for finding in _plans(full))


def test_a_broken_table_is_a_note(gpu: None) -> None:
    file: Path = save_plans("A GPU", {})
    file.write_text("{")
    first, *rest = _plans(GPU)
    assert first.status == "note"
    assert str(file) in first.found
    assert "fastcifar tune" in first.mend
    assert len(rest) == 10
