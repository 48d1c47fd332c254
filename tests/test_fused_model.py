"""The networks with the fused block: the same function, the same gradients, and training that ends as well."""

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from colour_dataset import make_colour_dataset
from torch import Tensor, nn

from fastcifar.model.layers import Chain, DepthwiseSeparable
from fastcifar.model.registry import build_model
from fastcifar_kernels.depthwise_pointwise import plan


@pytest.fixture
def fusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every shape is fused, on the CPU too, where the operator's plain implementation serves."""
    monkeypatch.setattr(plan, "refusal", lambda shape, dtype, device: "")
    monkeypatch.setattr(plan.Machine, "of", staticmethod(lambda device: plan.Machine(1.0, float("inf"), 1)))
    monkeypatch.setattr(plan, "CLEAR_GAIN", 0.0)
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def calls_of_the_operator(model: nn.Module, images: Tensor) -> list[tuple[bool, bool]]:
    """(takes over a batch-norm, makes statistics) of each call in the compiled model."""
    found: list[tuple[bool, bool]] = []

    def note(module: torch.fx.GraphModule, _: object) -> object:
        nodes = [node for node in module.graph.nodes if "fastcifar_kernels.depthwise_pointwise" in str(node.target)]
        found.extend((node.args[3] is not None, node.args[7]) for node in nodes)
        return module.forward

    torch.compile(model, backend=note, fullgraph=True, dynamic=False)(images)
    torch.compiler.reset()
    return found


def test_where_the_operator_serves(fusing):
    """In every depthwise-separable layer; it takes over a batch-norm where neither layer is residual."""
    images = torch.randn(4, 3, 32, 32)
    assert calls_of_the_operator(build_model("c1c2c3c40-speed"), images) == [(True, True), (False, True)]
    assert calls_of_the_operator(build_model("c1c2c3c40-accuracy"), images) == [(False, True)] * 15
    assert calls_of_the_operator(build_model("c1c2c3c40-speed").eval(), images) == [(True, False), (False, False)]
    three = Chain(DepthwiseSeparable(3, 8), DepthwiseSeparable(8, 8), DepthwiseSeparable(8, 16, stride=2))
    assert calls_of_the_operator(three, images) == [(False, True), (True, True), (True, True)]


def test_eagerly_two_convolutions_serve(fusing):
    seen: list[nn.Module] = []
    layer = DepthwiseSeparable(8, 8)
    for part in layer.children():
        part.register_forward_hook(lambda module, *_: seen.append(module))
    layer(torch.randn(2, 8, 6, 6))
    assert seen[:2] == [layer.depthwise, layer.pointwise]


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])
def test_fused_equals_plain(name, training, fusing, monkeypatch):
    """Logits, gradients and running statistics, against the plain network in float64."""
    torch.manual_seed(0)
    plain = build_model(name).to(memory_format=torch.channels_last).train(training)  # pyright: ignore[reportCallIssue]
    for norm in (layer for layer in plain.modules() if isinstance(layer, nn.BatchNorm2d)):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        nn.init.uniform_(norm.running_mean, -0.2, 0.2)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    fused, exact = copy.deepcopy(plain), copy.deepcopy(plain).double()
    images = torch.randn(6, 3, 24, 24).to(memory_format=torch.channels_last)
    upstream = torch.randn(6, 10)
    logits = torch.compile(fused, backend="aot_eager", fullgraph=True)(images)
    (logits * upstream).sum().backward()
    monkeypatch.setattr(plan, "refusal", lambda shape, dtype, device: "plain")
    right = exact(images.double())
    (right * upstream).sum().backward()
    torch.testing.assert_close(logits.double(), right, rtol=1e-4, atol=1e-4)
    for (label, ours), theirs in zip(fused.named_parameters(), exact.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert (ours.grad - theirs.grad).norm() <= 1e-3 * theirs.grad.norm() + 1e-6, label
    for (label, ours), theirs in zip(fused.named_buffers(), exact.buffers(), strict=True):
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=1e-5, atol=1e-5, msg=label)


def losses(model: nn.Module, steps: int, batch: int, seed: int) -> Tensor:
    """Cross-entropy of each step on images of 16 pixels that are told apart by their colour under noise."""
    images = torch.from_numpy(make_colour_dataset(1000, 10).train.images[:, ::2, ::2]).float().permute(0, 3, 1, 2)
    labels = torch.from_numpy(make_colour_dataset(1000, 10).train.labels)
    images = ((images - 128) / 64 + 2 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).to(
        memory_format=torch.channels_last
    )
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True)
    found = []
    for _ in range(steps):
        chosen = torch.randint(len(images), (batch,), generator=generator)
        loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.detach())
    return torch.stack(found)


def trained(seed: int, compiled: bool, steps: int = 100, batch: int = 32) -> Tensor:
    torch.manual_seed(seed)
    model: nn.Module = build_model("c1c2c3c40-speed").to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if compiled:
        model.compile(backend="aot_eager", fullgraph=True, dynamic=False)
    return losses(model, steps, batch, seed)


@pytest.mark.slow
def test_training_ends_as_well_as_without(fusing, monkeypatch):
    """100 steps of the speed network from two seeds: the last losses differ no more than those of the seeds do."""
    fused = torch.stack([trained(seed, compiled=True)[-25:].mean() for seed in range(2)])
    monkeypatch.setattr(plan, "refusal", lambda shape, dtype, device: "plain")
    torch.compiler.reset()
    plain = torch.stack([trained(seed, compiled=False)[-25:].mean() for seed in range(2)])
    start = trained(0, compiled=False, steps=1).item()
    assert plain.max() < 0.8 * start
    assert (fused.mean() - plain.mean()).abs() <= plain.max() - plain.min() + 0.02 * start


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="no triton")
def test_the_kernels_train_in_the_interpreter(tmp_path):
    """The Triton kernels themselves, 12 steps in float32: the losses follow those of the plain network."""
    script = Path(__file__).with_name("fused_training_interpreted.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    file = tmp_path / "losses.pt"
    done = subprocess.run([sys.executable, str(script), str(file)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = torch.load(file)
    right = trained(0, compiled=False, steps=len(found), batch=16)
    assert right[-3:].mean() < 0.95 * right[0]
    torch.testing.assert_close(found, right, rtol=1e-2, atol=1e-2)
