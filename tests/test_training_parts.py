"""Optimizer, schedule, weight average and step, each against torch or a formula."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastcifar.config import OptimizerConfig, RuntimeConfig, ScheduleConfig
from fastcifar.model.registry import build_model
from fastcifar.runtime import choose_runtime
from fastcifar.training.averaging import WeightAverage
from fastcifar.training.optimizer import build_optimizer, set_learning_rate
from fastcifar.training.schedule import OneCycle, StepDecay, build_schedule
from fastcifar.training.step import TrainingStep


def test_every_trainable_parameter_is_in_the_right_group() -> None:
    model: Any = build_model("c1c2c3c40-speed")
    model.stem.conv.weight.requires_grad_(False)
    weights, biases = build_optimizer(model, OptimizerConfig(weight_decay=0.01, bias_lr_scale=7.0)).param_groups
    by_id = {id(parameter): name for name, parameter in model.named_parameters()}
    names = [{by_id[id(parameter)] for parameter in group["params"]} for group in (weights, biases)]
    assert names[0].isdisjoint(names[1])
    assert names[0] | names[1] == set(by_id.values()) - {"stem.conv.weight"}
    assert names[1] == {n for n in by_id.values() if n.endswith("bias") or "norm" in n}
    assert (weights["weight_decay"], biases["weight_decay"]) == (0.01, 0.0)
    set_learning_rate(build_optimizer(model, OptimizerConfig()), 0.5)
    optimizer = build_optimizer(model, OptimizerConfig(bias_lr_scale=7.0))
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 3.5]


def test_updates_equal_nesterov_by_hand() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 3)
    config = OptimizerConfig(learning_rate=0.1, momentum=0.8, weight_decay=0.05, bias_lr_scale=3.0)
    optimizer = build_optimizer(model, config)
    weight, bias = model.weight.detach().double().clone(), model.bias.detach().double().clone()
    velocity = {"weight": torch.zeros_like(weight), "bias": torch.zeros_like(bias)}
    for step in range(5):
        set_learning_rate(optimizer, 0.1 * (step + 1))
        model.weight.grad, model.bias.grad = torch.randn(3, 4), torch.randn(3)
        for name, value, decay, scale in (("weight", weight, 0.05, 1.0), ("bias", bias, 0.0, 3.0)):
            gradient = getattr(model, name).grad.double() + decay * value
            velocity[name] = 0.8 * velocity[name] + gradient if step else gradient.clone()
            value -= 0.1 * (step + 1) * scale * (gradient + 0.8 * velocity[name])
        optimizer.step()
    torch.testing.assert_close(model.weight.detach().double(), weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(model.bias.detach().double(), bias, rtol=1e-5, atol=1e-6)


def test_one_cycle_rises_and_falls_and_ignores_the_batch_size() -> None:
    config = ScheduleConfig(epochs=10, warmup=0.2, final_lr=0.1)
    schedule = OneCycle.from_config(config, peak=2.0, examples_per_epoch=1000)
    points = {0: 0.0, 1000: 1.0, 2000: 2.0, 6000: 1.1, 10_000: 0.2, 12_000: 0.2}
    for examples, expected in points.items():
        assert schedule.learning_rate(examples) == pytest.approx(expected), examples
    no_warmup = OneCycle.from_config(dataclasses.replace(config, warmup=0.0), 2.0, 1000)
    assert no_warmup.learning_rate(0) == pytest.approx(2.0)


@pytest.mark.parametrize(("step_size", "gamma"), [(1, 0.9), (3, 0.2), (8, 0.5)])
def test_step_decay_is_torchs_step_lr(step_size: int, gamma: float) -> None:
    """In the middle of the first and of the last of an epoch's seven batches."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    reference = torch.optim.lr_scheduler.StepLR(optimizer, step_size, gamma)
    config = ScheduleConfig(epochs=20, kind="step", step_size=step_size, gamma=gamma)
    schedule = build_schedule(config, peak=0.3, examples_per_epoch=7 * 64)
    for epoch in range(20):
        for batch in (0, 6):
            found = schedule.learning_rate((7 * epoch + batch) * 64 + 32)
            assert found == pytest.approx(optimizer.param_groups[0]["lr"]), (epoch, batch)
        optimizer.step()
        reference.step()


def test_the_kind_of_schedule_is_chosen_by_name() -> None:
    kinds = {kind: type(build_schedule(ScheduleConfig(kind=kind), 1.0, 100)) for kind in ("one-cycle", "step")}
    assert kinds == {"one-cycle": OneCycle, "step": StepDecay}


def test_the_weight_average_follows_the_recursion_including_batch_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(model, decay=0.9)
    expected = {k: v.double().clone() for k, v in model.state_dict().items()}
    for step in range(1, 101):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(8, 3))
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        for key, value in model.state_dict().items():
            moved = decay * expected[key] + (1 - decay) * value.double()
            expected[key] = moved if value.is_floating_point() else value.double()
    for key, value in average.module.state_dict().items():
        torch.testing.assert_close(value.double(), expected[key], rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in average.module.parameters())


@pytest.fixture
def cpu_runtime():
    return choose_runtime(RuntimeConfig(device="cpu", amp=False))


def make_step(runtime, label_smoothing: float = 0.0) -> TrainingStep:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
    return TrainingStep(model, build_optimizer(model, OptimizerConfig()), None, runtime, label_smoothing)


def test_a_step_returns_loss_and_count_and_moves_against_the_gradient(cpu_runtime) -> None:
    step = make_step(cpu_runtime, label_smoothing=0.2)
    images, labels = torch.randn(16, 3, 2, 2), torch.randint(0, 10, (16,))
    logits = step.model(images).double()
    smoothed = torch.full((16, 10), 0.02, dtype=torch.float64).scatter_(1, labels[:, None], 0.82)
    before = copy.deepcopy(step.model.state_dict())
    loss, correct = step(images, labels, learning_rate=1e-3)
    torch.testing.assert_close(loss.double(), -(smoothed * logits.log_softmax(1)).sum(1).mean(), rtol=1e-5, atol=1e-6)
    assert correct.item() == (logits.argmax(1) == labels).sum().item()
    assert not torch.equal(before["1.weight"], step.model.state_dict()["1.weight"])
    after = F.cross_entropy(step.model(images), labels, label_smoothing=0.2)
    assert after < loss
    assert all(parameter.grad is None for parameter in step.model.parameters())


def test_autocast_is_entered_where_the_runtime_says_so(cpu_runtime) -> None:
    runtime = dataclasses.replace(cpu_runtime, autocast_dtype=torch.bfloat16)
    seen = []
    step: Any = make_step(runtime)
    step.model[1].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    loss, _ = step(torch.randn(4, 3, 2, 2), torch.zeros(4, dtype=torch.int64), 0.1)
    assert seen == [torch.bfloat16]
    assert loss.dtype == torch.float32
    assert step.model[1].weight.dtype == torch.float32


def test_fp16_trains_with_a_scaled_loss(cpu_runtime) -> None:
    runtime = dataclasses.replace(cpu_runtime, autocast_dtype=torch.float16)
    step: Any = make_step(runtime)
    images, labels = torch.randn(64, 3, 2, 2), torch.randint(0, 10, (64,))
    losses = [step(images, labels, 0.1)[0].item() for _ in range(30)]
    assert step.scaler.get_scale() > 1
    assert losses[-1] < 0.8 * losses[0]
    assert abs(losses[0] - F.cross_entropy(make_step(cpu_runtime).model(images), labels).item()) < 5e-3


def test_an_overflow_in_fp16_skips_the_step_and_lowers_the_scale(cpu_runtime) -> None:
    step: Any = make_step(dataclasses.replace(cpu_runtime, autocast_dtype=torch.float16))
    before = step.model[1].weight.detach().clone()
    step(torch.full((4, 3, 2, 2), 6e4), torch.zeros(4, dtype=torch.int64), 0.1)
    assert torch.equal(step.model[1].weight, before)
    assert step.scaler.get_scale() < 65536


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_step_never_waits_for_the_gpu() -> None:
    runtime = choose_runtime(RuntimeConfig(device="cuda"))
    torch.manual_seed(0)
    model: Any = build_model("c1c2c3c40-speed")
    model.to(runtime.device, memory_format=torch.channels_last)
    optimizer = build_optimizer(model, OptimizerConfig(learning_rate=0.1))
    step = TrainingStep(model, optimizer, WeightAverage(model, 0.9), runtime, 0.1)
    images = torch.randn(64, 3, 32, 32, device=runtime.device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (64,), device=runtime.device)
    for _ in range(3):  # cuDNN's search and the optimizer's first state may wait
        step(images, labels, 0.1)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = torch.stack([step(images, labels, 0.1)[0] for _ in range(20)])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert losses[-1] < losses[0]
