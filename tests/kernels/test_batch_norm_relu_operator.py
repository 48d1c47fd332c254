"""The operator `batch_norm_relu`: output, moments, gradients beside float64, odd sizes, refusals, torch's checks."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastcifar.model.layers import Convolution, DepthwiseSeparable
from fastcifar_kernels.backend import Backend
from fastcifar_kernels.batch_norm_relu import BACKENDS, batch_norm_relu

EPSILON = 1e-5
SHAPES = [(1, 1, 1, 2), (3, 5, 4, 7), (2, 16, 1, 1), (7, 33, 5, 3), (64, 24, 8, 8), (130, 96, 4, 4)]
served = pytest.mark.skipif(BACKENDS["cpu"].used == "none", reason=BACKENDS["cpu"].reason)


def example(shape: tuple[int, ...], residual: bool, centre: float = 0.5) -> tuple[Tensor, list[Tensor]]:
    """Upstream gradient; x, weight, bias and, where wanted, the residual: float32, maps channels_last."""
    generator = torch.Generator().manual_seed(sum(shape))
    grad, x, added = (torch.randn(shape, generator=generator) for _ in range(3))
    grad, x, added = (one.contiguous(memory_format=torch.channels_last) for one in (grad, 2 * x + centre, added))
    weight, bias = (torch.randn(shape[1], generator=generator) for _ in range(2))
    return grad, [x, weight, bias, *([added] if residual else [])]


def called(inputs: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    x, weight, bias, *residual = inputs
    return batch_norm_relu(x, weight, bias, EPSILON, *residual)


def with_gradients(inputs: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    own = [one.detach().requires_grad_() for one in inputs]
    y, mean, variance = called(own)
    return y, mean, variance, *torch.autograd.grad(y, own, grad)


def in_float64(inputs: list[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    """The same with torch's operators."""
    x, weight, bias, *residual = wide = [one.detach().double().requires_grad_() for one in inputs]
    y = F.batch_norm(x, None, None, weight, bias, training=True, eps=EPSILON)
    y = F.relu(y + residual[0] if residual else y)
    return y, x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0), *torch.autograd.grad(y, wide, grad.double())


def assert_near(found: Tensor, expected: Tensor, tolerance: float = 2e-6) -> None:
    """Within the tolerance of the largest value, or of 1: of two values a channel has no gradient but rounding."""
    assert found.shape == expected.shape
    largest = expected.abs().max().item()
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=tolerance * max(largest, 1.0))


@served
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_output_moments_and_gradients_equal_float64(shape, residual):
    grad, inputs = example(shape, residual)
    # a value so near to 0 that rounding decides which side it is on would decide a whole gradient
    y = in_float64(inputs, grad)[0]
    pre = F.batch_norm(inputs[0].double(), None, None, *(i.double() for i in inputs[1:3]), training=True, eps=EPSILON)
    grad = torch.where(((pre + inputs[3] if residual else pre).abs() < 1e-5), 0.0, grad)
    for found, expected in zip(with_gradients(inputs, grad), in_float64(inputs, grad), strict=True):
        assert_near(found, expected)
    assert (y == 0).any() or y.numel() < 3


@served
@pytest.mark.parametrize("centre", [30.0, -1000.0])
def test_moments_far_from_zero_lose_no_digits(centre):
    _, inputs = example((50, 20, 6, 6), False, centre)
    _, mean, variance = called(inputs)
    wide = inputs[0].double()
    torch.testing.assert_close(mean.double(), wide.mean((0, 2, 3)), rtol=1e-7, atol=0)
    # x itself is rounded to 1e-7 of its size, so its spread is known to that share of it
    torch.testing.assert_close(variance.double(), wide.var((0, 2, 3), correction=0), rtol=1e-6, atol=0)


@served
def test_a_channel_that_is_the_same_everywhere():
    x = torch.full((4, 3, 5, 5), 7.25)
    y, mean, variance = batch_norm_relu(x, torch.ones(3), torch.tensor([-1.0, 0.0, 2.0]), EPSILON)
    assert torch.equal(mean, torch.full((3,), 7.25))
    assert torch.equal(variance, torch.zeros(3))
    torch.testing.assert_close(y[0, :, 0, 0], torch.tensor([0.0, 0.0, 2.0]), rtol=0, atol=1e-3)


@served
@pytest.mark.parametrize("residual", [False, True])
def test_a_fault_would_be_seen(residual):
    """No ReLU, moments of the wrong kind or a lost term of the gradient: each is far outside the tolerance."""
    grad, inputs = example((7, 33, 5, 3), residual)
    y, _, variance, dx, *_ = with_gradients(inputs, grad)
    expected = in_float64(inputs, grad)
    faults = [
        (y + (y == 0) * 0.1, expected[0]),
        (variance * 105 / 104, expected[2]),
        (dx + 1e-3 * dx.std(), expected[3]),
    ]
    for found, wanted in faults:
        with pytest.raises(AssertionError):
            assert_near(found, wanted)


@served
def test_maps_in_any_order_of_dimensions_and_with_gaps():
    grad, inputs = example((4, 12, 6, 5), True)
    wanted = with_gradients(inputs, grad)
    x, weight, bias, residual = inputs
    wide = torch.full((4, 24, 6, 11), torch.nan)
    wide[:, ::2, :, 1::2] = x
    gapped = torch.stack([weight, torch.full_like(weight, torch.nan)], 1)[:, 0]
    for variant in (
        [x.contiguous(), weight, bias, residual.contiguous()],
        [wide[:, ::2, :, 1::2], gapped, bias, residual],
        [x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0), weight, bias, residual],
    ):
        for found, expected in zip(with_gradients(variant, grad.contiguous()), wanted, strict=True):
            assert torch.equal(found, expected)


@served
@pytest.mark.parametrize("residual", [False, True])
def test_the_number_of_threads_changes_no_bit(residual):
    grad, inputs = example((65, 24, 9, 7), residual)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(with_gradients(inputs, grad))
    finally:
        torch.set_num_threads(before)
    for one in results[1:]:
        assert all(torch.equal(found, expected) for found, expected in zip(one, results[0], strict=True))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, torch.randn(4, 5, 5), "x: "),
        (0, torch.randn(2, 0, 5, 5), "x: "),
        (1, torch.randn(5), "weight, bias: "),
        (2, torch.randn(4, 1), "weight, bias: "),
        (3, torch.randn(2, 4, 5, 4), "residual: "),
    ],
)
def test_what_does_not_fit_is_refused(place, value, said):
    _, inputs = example((2, 4, 5, 5), True)
    called(inputs)
    inputs[place] = value
    with pytest.raises(ValueError, match=said) as error:
        called(inputs)
    assert "\n" not in str(error.value)


@served
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, torch.randn(2, 4, 5, 6)),
        (0, torch.randn(2, 4, 5, 5).double()),
        (1, torch.randn(2, 4, 5, 5).half()),
        (2, torch.randn(3, 4, 5, 5)),
        (3, torch.randn(5)),
        (5, torch.randn(4).double()),
        (6, torch.randn(1)),
    ],
)
def test_the_library_reads_and_writes_nothing_outside(place, value):
    grad, (x, weight, bias, residual) = example((2, 4, 5, 5), True)
    y, mean, variance = batch_norm_relu(x, weight, bias, EPSILON, residual)
    arguments: list[Any] = [grad, x, y, weight, bias, mean, variance, EPSILON]
    backward = torch.ops.fastcifar_kernels.batch_norm_relu_backward.default
    backward(*arguments)
    arguments[place] = value
    with pytest.raises(ValueError, match=r"float32|shape"):
        backward(*arguments)


@served
@pytest.mark.parametrize("residual", [False, True])
def test_torch_checks_both_operators(residual):
    grad, (x, weight, bias, *added) = example((3, 8, 4, 5), residual)
    operators = torch.ops.fastcifar_kernels
    y, mean, variance = batch_norm_relu(x, weight, bias, EPSILON, *added)
    saved = y if residual else None
    arguments = grad, x, saved, weight, bias, mean, variance, EPSILON
    assert set(torch.library.opcheck(operators.batch_norm_relu_backward.default, arguments).values()) == {"SUCCESS"}
    for layout in (torch.channels_last, torch.contiguous_format):
        maps = [one.contiguous(memory_format=layout).requires_grad_() for one in (x, *added)]
        inputs = maps[0], maps[1] if added else None, weight.requires_grad_(), bias.requires_grad_(), EPSILON
        assert set(torch.library.opcheck(operators.batch_norm_relu.default, inputs).values()) == {"SUCCESS"}


def layer_and_input(kind: type, residual: bool) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layer = kind(24, 24, residual=residual).to(memory_format=torch.channels_last)
    nn.init.normal_(layer.norm.weight, 1, 0.3)
    nn.init.normal_(layer.norm.bias)
    return layer, torch.randn(9, 24, 7, 5).contiguous(memory_format=torch.channels_last)


@served
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("kind", [Convolution, DepthwiseSeparable])
def test_a_layer_trains_as_with_torchs_batch_norm(monkeypatch, kind, residual):
    found, expected = [], []
    for results in (found, expected):
        layer, x = layer_and_input(kind, residual)
        for _ in range(2):
            own = x.clone().requires_grad_()
            y = layer(own)
            results += [y, *torch.autograd.grad(y.square().sum(), [own, *layer.parameters()])]
        results += layer.norm.buffers()  # pyright: ignore[reportAttributeAccessIssue]
        results.append(layer.eval()(x))
        monkeypatch.setitem(BACKENDS, "cpu", Backend("batch_norm_relu", "cpu", "none", "no C++17 compiler was found"))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


@served
@pytest.mark.parametrize(
    ("change", "serves"),
    [
        (lambda layer, x: (layer, x), True),
        (lambda layer, x: (layer.eval(), x), False),
        (lambda layer, x: (layer.double(), x.double()), False),
    ],
)
def test_where_the_operator_serves(monkeypatch, change, serves):
    calls = []
    real = torch.ops.fastcifar_kernels.batch_norm_relu.default
    monkeypatch.setattr(
        "fastcifar.model.batch_norm.batch_norm_relu", lambda *a: (calls.append(1), real(a[0], a[4], *a[1:4]))[1]
    )
    layer, x = change(*layer_and_input(Convolution, True))
    layer(x)
    assert bool(calls) == serves
    with torch.autocast("cpu", torch.bfloat16):
        calls.clear()
        layer(x)
        assert not calls
