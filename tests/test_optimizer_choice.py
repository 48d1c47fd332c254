"""Whose SGD is used: the choice and its reason, the apex that is not NVIDIA's, and that all of them train alike."""

import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from training_runs import assert_same_weights, make_material, run, weights

from fastcifar.config import OptimizerConfig, RuntimeConfig
from fastcifar.dataset.image_set import Dataset
from fastcifar.errors import DeviceError, UsageError
from fastcifar.runtime import choose_runtime, disappointments
from fastcifar.settings import resolve
from fastcifar.training import optimizer_choice
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.observer import Observer
from fastcifar.training.optimizer import build_optimizer, set_learning_rate
from fastcifar.training.optimizer_choice import choose_optimizer, why_not_apex, with_optimizer
from fastcifar.training.resume import resolve_resumed
from fastcifar.training.trainer import Interrupted
from fastcifar_kernels.backend import Backend
from fastcifar_kernels.sgd_ema import BACKENDS
from fastcifar_kernels.sgd_ema.optimizer import SGDEMA

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
fused_here = pytest.mark.skipif(BACKENDS["cpu"].used == "none", reason=BACKENDS["cpu"].reason)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the library had been built."""
    monkeypatch.setitem(BACKENDS, "cpu", Backend("sgd_ema", "cpu", "c++", "the library loads"))


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "cpu", Backend("sgd_ema", "cpu", "none", "no C++17 compiler was found"))


@pytest.fixture
def apex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes packages named apex, seen by nobody after the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def make(files: dict[str, str]) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

    yield make
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("apex", "amp_C"):
            del sys.modules[name]


NVIDIAS = {
    "apex/__init__.py": "",
    "apex/optimizers/__init__.py": "import torch\nclass FusedSGD(torch.optim.SGD): pass\n",
    "amp_C.py": "",
}


def test_auto_takes_the_one_launch_where_it_can_be_had(served) -> None:
    choice = choose_optimizer("auto", CPU, False)
    assert (choice.used, choice.disappoints) == ("fused", False)
    assert "c++" in choice.reason
    assert choose_optimizer("fused", CPU, False).used == "fused"
    assert choose_optimizer("torch", CPU, False).used == "torch"


def test_without_the_library_only_who_asked_for_it_is_disappointed(no_library) -> None:
    for requested, disappoints in (("auto", False), ("fused", True), ("torch", False)):
        choice = choose_optimizer(requested, CPU, False)
        assert (choice.requested, choice.used, choice.disappoints) == (requested, "torch", disappoints)
    assert "no C++17 compiler" in choose_optimizer("fused", CPU, False).reason


def test_a_gradient_scaler_is_left_to_torch(served) -> None:
    choice = choose_optimizer("fused", CPU, True)
    assert (choice.used, choice.disappoints) == ("torch", True)
    assert "scaler" in choice.reason


def test_no_apex_at_all(served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer_choice.importlib.util, "find_spec", lambda name: None)
    choice = choose_optimizer("apex", CPU, False)
    assert (choice.used, choice.disappoints) == ("fused", True)
    assert "not installed" in choice.reason
    assert "github.com/NVIDIA/apex" in choice.reason


def test_the_other_package_of_that_name_is_told_apart_and_not_run(apex) -> None:
    apex({"apex/__init__.py": "raise AssertionError('was imported')\n", "apex/views.py": ""})
    reason = why_not_apex(GPU)
    assert "unrelated package of the same name" in reason
    assert "pip uninstall apex" in reason
    assert "apex" not in sys.modules


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"amp_C.py": "raise ImportError('undefined symbol: _ZN3c10')"}, "undefined symbol"),
        ({"apex/optimizers/__init__.py": ""}, "FusedSGD"),
        ({"apex/__init__.py": "import no_such_module_of_anybody"}, "no_such_module_of_anybody"),
    ],
)
def test_an_nvidia_apex_that_does_not_work_says_why(apex, change, said) -> None:
    apex(NVIDIAS | change)
    reason = why_not_apex(GPU)
    assert "cannot be used" in reason
    assert said in reason


def test_an_nvidia_apex_without_its_extension(apex) -> None:
    apex({name: text for name, text in NVIDIAS.items() if name != "amp_C.py"})
    assert "amp_C" in why_not_apex(GPU)


def test_nvidias_apex_is_used_on_cuda_only(apex) -> None:
    apex(NVIDIAS)
    assert why_not_apex(GPU) == ""
    assert choose_optimizer("apex", GPU, True).used == "apex"
    assert "CUDA" in why_not_apex(CPU)
    optimizer = build_optimizer(nn.Linear(3, 2), OptimizerConfig(), "apex")
    assert (type(optimizer).__module__, type(optimizer).__name__) == ("apex.optimizers", "FusedSGD")
    assert [group["lr_scale"] for group in optimizer.param_groups] == [1.0, 16.0]


def test_a_wish_by_name_warns_and_strict_refuses(no_library) -> None:
    for flags, lines in (({}, 0), ({"optimizer.backend": ("--optimizer", "fused")}, 1)):
        resolved = resolve("demo", {"runtime.device": ("--device", "cpu")} | flags, environment={})
        runtime = with_optimizer(choose_runtime(resolved.config.runtime), resolved.config.optimizer)
        said = disappointments(runtime, resolved)
        assert len(said) == lines
    assert "optimizer fused was asked for, torch is used" in said[0]
    strict = resolve("demo", flags | {"runtime.strict": ("--strict", True)}, environment={})
    with pytest.raises(DeviceError) as refused:
        disappointments(with_optimizer(choose_runtime(RuntimeConfig(device="cpu")), strict.config.optimizer), strict)
    assert refused.value.exit_code == 4
    with pytest.raises(UsageError, match=r"optimizer\.backend"):
        OptimizerConfig(backend="adam")


def test_the_operators_own_entry_gives_way_to_the_choice(served) -> None:
    runtime = with_optimizer(choose_runtime(RuntimeConfig(device="cpu")), OptimizerConfig(backend="torch"))
    assert "sgd_ema" not in runtime.choices
    assert runtime.used()["optimizer"] == "torch"


@fused_here
def test_the_one_launch_trains_as_torch_does_with_batch_norm_and_a_frozen_weight() -> None:
    results = []
    for backend in ("torch", "fused"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.Linear(64, 3))
        model[2].weight.requires_grad_(False)
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        average = WeightAverage(model, 0.9)
        optimizer = build_optimizer(model, OptimizerConfig(bias_lr_scale=2.0), backend, average)
        for step in range(30):
            set_learning_rate(optimizer, 1e-3 * (step % 5))
            model(torch.randn(8, 3, 8, 8).to(memory_format=torch.channels_last)).square().mean().backward()
            if isinstance(optimizer, SGDEMA):
                optimizer.share = average.next_share()
                optimizer.step()
            else:
                optimizer.step()
                average.update()
            optimizer.zero_grad(set_to_none=True)
        assert average.updates == 30
        results.append({**model.state_dict(), **{f"average {k}": v for k, v in average.module.state_dict().items()}})
    assert results[0].keys() == results[1].keys()
    for name, tensor in results[0].items():
        torch.testing.assert_close(results[1][name], tensor, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@fused_here
def test_runs_of_both_end_alike_and_say_which_they_were(colours: Dataset, tmp_path: Path) -> None:
    results = [
        run(make_material(colours, "schedule.epochs=1", f"optimizer.backend={backend}"), tmp_path / backend)
        for backend in ("torch", "fused", "auto")
    ]
    assert [result["used"]["optimizer"] for result in results] == ["torch", "fused", "fused"]
    assert [result["requested"]["optimizer"] for result in results] == ["torch", "fused", "auto"]
    ends = [weights(result["run_dir"]) for result in results]
    assert_same_weights(ends[1], ends[2])
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=2e-3, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}")


class StopInSecondEpoch(Observer):
    def steps_done(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        if (epoch, step) == (2, 3):
            os.kill(os.getpid(), signal.SIGINT)


@fused_here
@pytest.mark.parametrize(("first", "then"), [("torch", "fused"), ("fused", "torch")])
def test_a_run_may_go_on_with_the_other(colours: Dataset, tmp_path: Path, first: str, then: str) -> None:
    whole = run(make_material(colours, f"optimizer.backend={first}"), tmp_path / "whole")
    with pytest.raises(Interrupted) as stop:
        run(make_material(colours, f"optimizer.backend={first}"), tmp_path / "stopped", StopInSecondEpoch())
    folder = Path(str(stop.value))
    assert resolve_resumed(folder, {"optimizer.backend": ("--optimizer", then)}, []).config.optimizer.backend == then
    resumed = run(make_material(colours, f"optimizer.backend={then}"), tmp_path / "stopped", resume=folder)
    assert resumed["used"]["optimizer"] == then
    ends = weights(whole["run_dir"]), weights(folder)
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor, rtol=5e-3, atol=5e-3, msg=lambda m, n=name: f"{n}: {m}")
