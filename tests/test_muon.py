"""Muon: the polynomial that its iterations are, its step in float64, who takes part, runs that resume to the bit."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_runs import assert_same_weights, make_material, run, weights

from fastcifar.config import OptimizerConfig, RuntimeConfig
from fastcifar.dataset.image_set import Dataset
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.muon import COEFFICIENTS, ITERATIONS, MOMENTUM, Muon, MuonAndSGD, orthogonalised
from fastcifar.training.optimizer import build_optimizer, set_learning_rate
from fastcifar.training.step import TrainingStep
from fastcifar.training.trainer import Interrupted

CONFIG = OptimizerConfig(learning_rate=0.5, bias_lr_scale=4.0, muon_lr=0.1)


def by_singular_values(matrix: Tensor) -> Tensor:
    """The same in float64: the singular vectors stay, and each value goes through the quintic."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / matrix.double().norm()
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    return left @ torch.diag(values) @ right


@pytest.mark.parametrize("shape", [(32, 216), (48, 27), (5, 5), (1, 9), (96, 96), (7, 3)])
def test_orthogonalised_keeps_singular_vectors_and_sends_values_near_one(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(sum(shape))
    matrix = torch.randn(shape, generator=generator)
    found = orthogonalised(matrix)
    torch.testing.assert_close(found.double(), by_singular_values(matrix), rtol=1e-4, atol=1e-5)
    scaled = orthogonalised(1e4 * matrix)
    torch.testing.assert_close(scaled, found, rtol=1e-4, atol=1e-5)
    values = torch.linalg.svdvals(matrix) / matrix.norm()
    strong = torch.linalg.svdvals(found)[values > 0.05]
    assert ((strong > 0.5) & (strong < 1.3)).all()


def test_no_gradient_at_all_moves_nothing_but_the_norm() -> None:
    assert torch.equal(orthogonalised(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_a_step_by_hand_in_float64() -> None:
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(6, 4, 3, 3).contiguous(memory_format=torch.channels_last))
    optimizer = Muon([kernel], lr=0.0)
    value, velocity = kernel.detach().double(), torch.zeros(6, 4, 3, 3, dtype=torch.float64)
    for step in range(4):
        rate = 0.1 * (step + 1)
        optimizer.param_groups[0]["lr"] = rate
        kernel.grad = torch.randn(6, 4, 3, 3)
        velocity = MOMENTUM * velocity + kernel.grad.double()
        direction = by_singular_values((kernel.grad.double() + MOMENTUM * velocity).reshape(6, 36))
        value = value * 6**0.5 / value.norm() - rate * direction.reshape(6, 4, 3, 3)
        optimizer.step()
        torch.testing.assert_close(kernel.detach().double(), value, rtol=1e-4, atol=1e-5)
    assert kernel.is_contiguous(memory_format=torch.channels_last)


def test_who_takes_part() -> None:
    model = build_model("c1c2c3c40-speed")
    optimizer = build_optimizer(model, CONFIG)
    assert isinstance(optimizer, MuonAndSGD)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    mixing, weights_, biases = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert mixing == {
        "stem.conv.weight", "c1.conv.weight", "c2.0.conv.weight", "c2.1.conv.weight", "c3.0.conv.weight",
        "c3.1.pointwise.weight", "c4.pointwise.weight",
    }  # fmt: skip
    assert weights_ == {"c3.1.depthwise.weight", "c4.depthwise.weight", "head.weight"}
    assert mixing | weights_ | biases == set(names.values())
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.25, 1.0])
    assert isinstance(build_optimizer(model, dataclasses.replace(CONFIG, muon_lr=0.0)), torch.optim.SGD)


@pytest.mark.parametrize("backend", ["torch", "fused"])
def test_the_average_follows_both_parts(backend: str) -> None:
    torch.manual_seed(0)
    model = build_model("c1c2c3c40-speed").to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = WeightAverage(model, 0.9)
    optimizer = build_optimizer(model, CONFIG, backend, average)
    runtime = choose_runtime(RuntimeConfig(device="cpu", amp=False))
    step = TrainingStep(model, optimizer, average, runtime, label_smoothing=0.0)
    expected = {name: value.double() for name, value in average.module.state_dict().items()}
    for number in range(1, 4):
        step(torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,)), 0.1)
        share = 1 - min(0.9, (1 + number) / (10 + number))
        for name, value in model.state_dict().items():
            expected[name] += share * (value.double() - expected[name])
    for name, value in average.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_an_interrupted_run_resumes_to_the_bit(
    colours: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = make_material(colours, "optimizer.muon_lr=0.1")
    whole = run(material, tmp_path / "whole")
    real, calls = TrainingStep.__call__, []

    def stops(self: TrainingStep, *arguments: object) -> object:
        calls.append(self)
        if len(calls) == 11:
            import signal

            signal.raise_signal(signal.SIGINT)
        return real(self, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(TrainingStep, "__call__", stops)
    with pytest.raises(Interrupted) as stop:
        run(material, tmp_path / "stopped")
    resumed = run(material, tmp_path / "stopped", resume=Path(str(stop.value)))
    assert_same_weights(weights(whole["run_dir"]), weights(resumed["run_dir"]))


def test_a_gradient_scaler_steps_both_parts_and_skips_both() -> None:
    torch.manual_seed(0)
    model = build_model("c1c2c3c40-speed")
    optimizer = build_optimizer(model, CONFIG)
    set_learning_rate(optimizer, 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for poison in (False, True):
        before = {name: value.clone() for name, value in model.named_parameters()}
        scaler.scale(model(torch.randn(4, 3, 16, 16)).square().mean()).backward()
        if poison:
            model.get_parameter("head.weight").grad.fill_(torch.inf)  # pyright: ignore[reportOptionalMemberAccess]
        scaler.step(optimizer)  # pyright: ignore[reportArgumentType]
        scaler.update()
        optimizer.zero_grad()
        for name in ("c2.0.conv.weight", "head.weight"):
            assert torch.equal(before[name], model.get_parameter(name)) == poison, name
