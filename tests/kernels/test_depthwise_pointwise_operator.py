"""`depthwise_pointwise` as an operator of torch: gradients, rules, autocast, torch.compile, errors (on the CPU)."""

import dataclasses
import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from depthwise_pointwise_cases import Case, distance, expected, inputs
from torch import Tensor

from fastcifar_kernels.depthwise_pointwise import BACKENDS, depthwise_pointwise
from fastcifar_kernels.depthwise_pointwise.shape import Shape, default_tiling

GEOMETRIES = list(itertools.product((1, 2), (1, 2)))


def leaves(case: Case, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    given = inputs(case)
    names = [name for name in ("x", "depthwise", "pointwise", "scale", "shift") if name in given]
    return {name: given[name].to(dtype).requires_grad_() for name in names}


def call(case: Case, given: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    options = {"stride": case.stride, "dilation": case.dilation, "statistics": case.statistics}
    return depthwise_pointwise(**given, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("stride", "dilation"), GEOMETRIES)
def test_gradcheck(stride, dilation, normalise):
    """Of every input, through y, its mean and its variance, in float64."""
    case = Case(2, 4, 5, 3, 4, stride, dilation, normalise, statistics=True)
    given = leaves(case, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *tensors: call(case, dict(zip(given, tensors, strict=True))), (*given.values(),)
    )


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize(("stride", "dilation"), GEOMETRIES)
def test_results_and_gradients_in_float32(stride, dilation, statistics):
    case = Case(2, 7, 5, 24, 20, stride, dilation, True, statistics)
    given, tensors = inputs(case), leaves(case)
    y, mean, variance = call(case, tensors)
    assert y.is_contiguous(memory_format=torch.channels_last)
    loss = (y * given["y_gradient"]).sum()
    if statistics:
        loss = loss + (mean * given["mean_gradient"]).sum() + (variance * given["variance_gradient"]).sum()
    loss.backward()
    gradients = {name: leaf.grad for name, leaf in tensors.items() if leaf.grad is not None}
    found = {"y": y, "mean": mean, "variance": variance} | gradients
    for name, value in expected(case, given).items():
        assert distance(found[name], value) <= 2e-6, name


@pytest.mark.parametrize(("normalise", "statistics"), [(False, False), (True, True)])
def test_opcheck(normalise, statistics):
    given = leaves(Case(2, 5, 4, 6, 5, 2, 1, normalise, statistics))
    arguments = [given.get(name) for name in ("x", "depthwise", "pointwise", "scale", "shift")]
    forward = torch.ops.fastcifar_kernels.depthwise_pointwise.default
    torch.library.opcheck(forward, (*arguments, 2, 1, statistics))
    y, mean, _ = (one.detach() for one in forward(*arguments, 2, 1, statistics))
    around = (y, mean, mean) if statistics else (None, None, None)
    detached = [None if one is None else one.detach() for one in arguments]
    backward = torch.ops.fastcifar_kernels.depthwise_pointwise_backward.default
    torch.library.opcheck(backward, (torch.randn_like(y), *around, *detached, 2, 1))


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_in_one_graph_equals_eager(backend):
    case = Case(2, 6, 6, 8, 8, normalise=True, statistics=True)
    given = leaves(case)

    def loss(tensors: dict[str, Tensor]) -> Tensor:
        y, mean, variance = call(case, tensors)
        return (y.relu() * 2).square().sum() + mean.sum() + variance.log().sum()

    torch.compiler.reset()
    right = torch.autograd.grad(loss(given), list(given.values()))
    found = torch.autograd.grad(torch.compile(loss, backend=backend, fullgraph=True)(given), list(given.values()))
    torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_narrows_the_map_and_leaves_the_weights(dtype):
    """The result in autocast's type, whichever it is; the weights' gradients in float32, as the weights are."""
    case = Case(2, 6, 5, 16, 8, statistics=True)
    given = leaves(case)
    with torch.autocast("cpu", dtype):
        y, mean, _ = call(case, given)
    assert y.dtype == dtype
    assert mean.dtype == torch.float32
    y.float().sum().backward()
    assert {leaf.grad.dtype for leaf in given.values() if leaf.grad is not None} == {torch.float32}


@pytest.mark.parametrize("bad", [
    {"x": torch.ones(1, 4, 5)},
    {"x": torch.ones(1, 4, 5, 5, dtype=torch.int32)},
    {"depthwise": torch.ones(3, 1, 3, 3)},
    {"depthwise": torch.ones(4, 1, 5, 5)},
    {"pointwise": torch.ones(6, 3, 1, 1)},
    {"pointwise": torch.ones(6, 4)},
    {"pointwise": torch.ones(6, 4, 1, 1, dtype=torch.bfloat16)},
    {"depthwise": torch.ones(4, 1, 3, 3, device="meta")},
    {"stride": 3},
    {"dilation": 0},
    {"scale": torch.ones(4)},
    {"scale": torch.ones(4), "shift": torch.ones(5)},
])  # fmt: skip
def test_what_it_cannot_take_it_says(bad):
    good: dict[str, Any] = {
        "x": torch.ones(1, 4, 5, 5),
        "depthwise": torch.ones(4, 1, 3, 3),
        "pointwise": torch.ones(6, 4, 1, 1),
    }
    depthwise_pointwise(**good)
    with pytest.raises(ValueError, match=next(iter(bad))) as raised:
        depthwise_pointwise(**(good | bad))
    assert len(str(raised.value).splitlines()) == 1


def test_torch_serves_cpus_by_choice():
    assert BACKENDS["cpu"].used == "torch"


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("size", [(2, 5, 6, 7, 5), (64, 32, 32, 32, 32), (16, 16, 16, 64, 128), (64, 4, 4, 96, 96)])
@pytest.mark.parametrize(("stride", "dilation"), GEOMETRIES)
def test_the_kernels_on_a_gpu(stride, dilation, size, dtype):
    """Against float64: float32 within 1e-5, narrow types within twice the error of cuDNN's convolutions."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    from fastcifar_kernels.depthwise_pointwise import launch

    case = dataclasses.replace(
        Case(*size), stride=stride, dilation=dilation, normalise=True, statistics=True, dtype=dtype
    )
    given = inputs(case)
    right = expected(case, given)
    there = {name: value.cuda() for name, value in given.items()}
    weights = there["depthwise"], there["pointwise"], there["scale"], there["shift"]
    shape = Shape.of(there["x"], there["pointwise"], stride, dilation)
    tiling = default_tiling(shape)
    y, mean, variance = launch.forward(tiling, there["x"], *weights, stride, dilation, True)
    slope = there["variance_gradient"] * (2 * shape.outputs / y.numel())
    intercept = there["mean_gradient"] * (shape.outputs / y.numel()) - slope * mean
    gradients = launch.backward(
        tiling, there["y_gradient"], y, intercept, slope, there["x"], *weights, stride, dilation
    )
    found = dict(zip(right, (y, mean, variance, *gradients), strict=True))
    rough = unfused_on_gpu(case, there)
    for name, value in right.items():
        bound = 1e-5 if dtype == torch.float32 else 2 * max(distance(rough[name], value), torch.finfo(dtype).eps)
        assert distance(found[name].cpu(), value) <= bound, name


def unfused_on_gpu(case: Case, given: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors = {
        name: given[name].to(case.dtype).requires_grad_() for name in ("x", "depthwise", "pointwise", "scale", "shift")
    }
    activated = F.relu(tensors["x"] * tensors["scale"][:, None, None] + tensors["shift"][:, None, None])
    z = F.conv2d(activated, tensors["depthwise"], None, case.stride, case.dilation, case.dilation, case.channels)
    y = F.conv2d(z, tensors["pointwise"])
    variance, mean = torch.var_mean(y.double(), dim=(0, 2, 3), correction=0)
    loss = (y * given["y_gradient"]).sum().double() + (mean * given["mean_gradient"]).sum()
    (loss + (variance * given["variance_gradient"]).sum()).backward()
    gradients = {name: tensor.grad for name, tensor in tensors.items() if tensor.grad is not None}
    found = {"y": y, "mean": mean, "variance": variance} | gradients
    return {name: value.detach().double().cpu() for name, value in found.items()}
