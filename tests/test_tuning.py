"""Tuning on a stand-in GPU: the shapes that are found, what becomes of made-up times, and the layers that are timed."""

import importlib.metadata
import json
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from fastcifar.errors import DeviceError
from fastcifar.gpu_timing import gpu_seconds
from fastcifar.model.layers import DepthwiseSeparable
from fastcifar.model.separable_shapes import separable_shapes
from fastcifar.plans import plans_file
from fastcifar.tuning import PlainSeparable, _training_step, tunable, tune
from fastcifar_kernels.depthwise_pointwise import plan
from fastcifar_kernels.depthwise_pointwise.shape import Shape, default_tiling

CPU, BF16 = torch.device("cpu"), torch.bfloat16
SHAPES = {Shape(2, 8, 8, 32, 32, 1, 1): True, Shape(2, 8, 8, 32, 48, 2, 1): False, Shape(2, 4, 4, 48, 48, 1, 2): True}
SPEED = {Shape(256, 8, 8, 96, 96, 2, 1): False, Shape(256, 4, 4, 96, 96, 1, 2): True}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> None:
    """The CPU as a GPU that the kernels are for; nothing is run on it."""
    monkeypatch.setattr(plan, "_MEASURED", {})
    monkeypatch.setattr(plan, "refusal", lambda shape, dtype, device: "")


def test_the_shapes_of_the_speed_network() -> None:
    assert separable_shapes("c1c2c3c40-speed", 256, 32) == SPEED
    assert {shape.height for shape in separable_shapes("c1c2c3c40-speed", 64, 20)} == {5, 3}


def test_shapes_of_layers_alike_are_met_once() -> None:
    shapes = separable_shapes("c1c2c3c40-accuracy", 128, 32)
    assert len(shapes) == 8
    assert list(shapes)[:2] == [Shape(128, 32, 32, 32, 32, 1, 1), Shape(128, 32, 32, 32, 64, 2, 1)]
    assert all(residual == (shape.stride == 1) for shape, residual in shapes.items())


def test_a_network_of_plain_convolutions_has_no_shapes_at_any_size() -> None:
    assert separable_shapes("assignment-671k", 64, 8) == {}


def test_nothing_to_tune_is_one_line_with_the_reason() -> None:
    with pytest.raises(DeviceError, match="nothing to tune: on a CPU") as caught:
        tunable(SPEED, BF16, CPU)
    assert caught.value.exit_code == 4
    with pytest.raises(DeviceError, match="nothing to tune: no layer is a DepthwiseSeparable"):
        tunable({}, BF16, CPU)


def test_shapes_that_the_kernels_refuse_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "refusal", lambda shape, *_: "too many" if shape.outputs > 32 else "")
    assert list(tunable(SHAPES, BF16, CPU)) == list(SHAPES)[:1]


def made_up(fused: Sequence[float], plain: Sequence[float]) -> Callable[[Sequence[Callable[[], object]]], list[float]]:
    """Seconds: of the two layers, shape by shape; of tiles, the fewer the later a candidate stands."""
    times = iter(zip(fused, plain, strict=True))
    return lambda works: list(next(times)) if len(works) == 2 else [1.0 / (1 + i) for i in range(len(works))]


def test_what_is_measured_is_returned_and_kept(stand_in: None, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    resets: list[None] = []  # without one a shape the compiler soon falls back to eager, in silence
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(None))
    measure = made_up([30e-6, 50e-6, math.inf], [40e-6, 45e-6, 9e-6])
    found = list(tune(SHAPES, BF16, CPU, "A GPU", measure))
    assert len(resets) == len(SHAPES)
    assert [timing.chosen for timing in found] == ["fused", "plain", "plain"]
    assert [timing.fused_us for timing in found] == pytest.approx([30, 50, math.inf])
    assert all(timing.tiling != default_tiling(timing.shape) for timing in found)
    table = json.loads(plans_file("A GPU").read_text())
    line = table["plans"]["2x8x8 32->32 stride 1 dilation 1 bfloat16"]
    assert (line["torch"], line["triton"]) == tuple(map(importlib.metadata.version, ("torch", "triton")))
    assert plan.load(plans_file("A GPU"), "A GPU") == 3
    for timing in found:
        chosen = plan.choose(timing.shape, BF16, CPU)
        assert (chosen.fused, chosen.tiling) == (timing.chosen == "fused", timing.tiling)


def test_the_table_grows_with_each_shape(stand_in: None) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    measure = made_up([30e-6, 1e-6], [40e-6, math.inf])
    running = tune(SHAPES, BF16, CPU, "A GPU", measure)
    first = next(running)
    with pytest.raises(DeviceError, match="not even the plain layer"):
        next(running)
    assert json.loads(plans_file("A GPU").read_text())["plans"].keys() == {plan.key(first.shape, BF16)}


def test_the_two_layers_that_are_timed_are_a_fused_and_a_plain_one(
    stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[bool] = []
    compile = torch.compile

    def note(module: torch.fx.GraphModule, inputs: object) -> object:
        graphs.append(any("depthwise_pointwise" in str(node.target) for node in module.graph.nodes))
        return module.forward

    def compiled(layer: nn.Module, dynamic: bool) -> object:
        return compile(layer, backend=note, fullgraph=True, dynamic=dynamic)

    monkeypatch.setattr(torch, "compile", compiled)
    torch.compiler.reset()
    for shape, residual in SHAPES.items():
        with plan.on_trial(shape, BF16, default_tiling(shape)):
            kinds = DepthwiseSeparable, PlainSeparable
            steps = [_training_step(kind, shape, residual, BF16, CPU) for kind in kinds]
            for step in (*steps, *steps):
                x, *weights = step()  # pyright: ignore[reportGeneralTypeIssues]
                assert x.shape == (shape.images, shape.channels, shape.height, shape.width)
                assert all(gradient.isfinite().all() and gradient.any() for gradient in (x, *weights[:-1]))
                assert [gradient.dtype for gradient in (x, *weights)] == [BF16, *[torch.float32] * 4]
    assert graphs == [True, False] * len(SHAPES)
    torch.compiler.reset()


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_real_gpu_both_layers_run(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_MEASURED", {})
    device = torch.device("cuda", torch.cuda.current_device())
    shapes = tunable({Shape(64, 9, 8, 32, 48, 2, 1): False, Shape(64, 8, 8, 32, 32, 1, 2): True}, BF16, device)
    for timing in tune(shapes, BF16, device, "A GPU", gpu_seconds):
        assert 0 < timing.fused_us < 1e5
        assert 0 < timing.plain_us < 1e5
    assert plan.load(plans_file("A GPU"), "A GPU") == 2
