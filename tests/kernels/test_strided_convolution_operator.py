"""The operator `strided_convolution`: gradients beside float64, any place in memory, what is refused, opcheck."""

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from operator_checks import assert_near, gradients_of, is_served
from torch import Tensor

from fastcifar.model.layers import Convolution, Dense
from fastcifar_kernels.backend import Backend
from fastcifar_kernels.strided_convolution import BACKENDS, strided_convolution

SIZES = [(1, 1), (1, 6), (5, 1), (2, 2), (4, 4), (3, 5), (7, 8), (16, 16)]
CHANNELS = [(1, 1), (3, 8), (5, 7), (8, 3), (16, 24), (24, 32), (25, 9), (33, 17), (48, 64), (70, 10)]
served = pytest.mark.skipif(BACKENDS["cpu"].used == "none", reason=BACKENDS["cpu"].reason)


def backward(*arguments: Any) -> tuple[Tensor, Tensor]:
    return torch.ops.fastcifar_kernels.strided_convolution_backward.default(*arguments)


def example(images: int, inputs: int, outputs: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Upstream gradient, input, weight; float32, channels_last."""
    generator = torch.Generator().manual_seed(inputs * 10000 + outputs * 100 + height * 10 + width)
    rows, columns = (-(-size // 2) for size in (height, width))
    shapes = (images, outputs, rows, columns), (images, inputs, height, width), (outputs, inputs, 3, 3)
    grad, x, weight = (torch.randn(shape, generator=generator) for shape in shapes)
    grad, x = (one.contiguous(memory_format=torch.channels_last) for one in (grad, x))
    return grad, x, weight


def in_float64(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output and both gradients of torch's convolution."""
    wide_x, wide_weight = (one.detach().double().requires_grad_() for one in (x, weight))
    y = F.conv2d(wide_x, wide_weight, None, 2, 1)
    dx, dweight = torch.autograd.grad(y, (wide_x, wide_weight), grad.double())
    return y, dx, dweight


@served
@pytest.mark.parametrize(("inputs", "outputs"), CHANNELS)
def test_output_and_gradients_equal_float64(inputs, outputs):
    for images, (height, width) in product((1, 5, 37), SIZES):
        grad, x, weight = example(images, inputs, outputs, height, width)
        own = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = strided_convolution(*own)
        wanted = in_float64(grad, x, weight)
        for found, expected in zip((y, *torch.autograd.grad(y, own, grad)), wanted, strict=True):
            assert_near(found, expected)


@served
@pytest.mark.parametrize(("images", "side"), [(257, 8), (64, 19)])
def test_sums_over_many_images_stay_accurate(images, side):
    """More images than a chunk's block holds, and a last chunk that is not full."""
    arguments = example(images, 24, 32, side, side)
    for found, expected in zip(backward(*arguments, True), in_float64(*arguments)[1:], strict=True):
        assert_near(found, expected)


@served
@pytest.mark.parametrize("tap", range(9))
def test_an_offset_of_one_pixel_or_another_tap_would_be_seen(tap):
    """A weight of a single 1 picks pixels: exact values, and no two taps alike."""
    x = torch.arange(1.0, 36.0).reshape(1, 1, 5, 7).requires_grad_()
    weight = torch.zeros(1, 1, 3, 3)
    weight.view(-1)[tap] = 1
    weight.requires_grad_()
    down, right = tap // 3, tap % 3
    padded = F.pad(x.detach(), (1, 2, 1, 2))
    y = strided_convolution(x, weight)
    assert torch.equal(y, padded[:, :, down : down + 5 : 2, right : right + 7 : 2])
    at = torch.zeros(1, 1, 3, 4)
    at[0, 0, 1, 2] = 1
    dx, dweight = torch.autograd.grad(y, (x, weight), at)
    assert dx.nonzero().tolist() == [[0, 0, 1 + down, 3 + right]]
    assert torch.equal(dweight[0, 0], x.detach()[0, 0, 1:4, 3:6])


@served
def test_nothing_around_the_tensors_is_read_or_written():
    """NaN on both sides of each tensor's memory reaches no gradient, and what lies around dx stays as it was."""
    grad, x, weight = example(5, 25, 9, 7, 5)
    wanted = in_float64(grad, x, weight)[1:]

    def amid_nan(tensor: Tensor) -> Tensor:
        values = tensor.permute(0, 2, 3, 1).reshape(-1)
        memory = torch.full((len(values) + 512,), torch.nan)
        memory[256:-256] = values
        count, channels, height, width = tensor.shape
        return memory[256:-256].view(count, height, width, channels).permute(0, 3, 1, 2)

    found = backward(amid_nan(grad), amid_nan(x), amid_nan(weight), True)
    for one, expected in zip(found, wanted, strict=True):
        assert_near(one, expected)


@served
def test_tensors_in_any_order_of_dimensions_and_with_gaps():
    grad, x, weight = example(4, 12, 10, 6, 5)
    wanted = backward(grad, x, weight, True)
    wide = torch.full((4, 24, 6, 11), torch.nan)
    wide[:, ::2, :, 1::2] = x
    variants = [
        (grad.contiguous(), x.contiguous(), weight),
        (grad, wide[:, ::2, :, 1::2], weight.contiguous(memory_format=torch.channels_last)),
        (grad.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0), x, weight.transpose(2, 3).clone().transpose(2, 3)),
    ]
    for variant in variants:
        for found, expected in zip(backward(*variant, True), wanted, strict=True):
            assert torch.equal(found, expected)
    one = torch.ones(()).expand(4, 10, 3, 3)
    for found, expected in zip(backward(one, x, weight, True), in_float64(one, x, weight)[1:], strict=True):
        assert_near(found, expected)


@served
@pytest.mark.parametrize("needed", [0, 1])
def test_where_only_one_gradient_is_needed(needed):
    grad, x, weight = example(3, 16, 8, 5, 5)
    inputs = x, weight
    inputs[needed].requires_grad_()
    strided_convolution(x, weight).backward(grad)
    assert inputs[1 - needed].grad is None
    found = inputs[needed].grad
    assert found is not None
    assert_near(found, in_float64(grad, x, weight)[1 + needed])


@served
def test_no_image_gives_no_gradient_of_the_weight():
    dx, dweight = backward(*example(0, 9, 4, 4, 4), True)
    assert dx.shape == (0, 9, 4, 4)
    assert torch.equal(dweight, torch.zeros(4, 9, 3, 3))


@served
@pytest.mark.parametrize("images", [1, 17, 200])
def test_the_number_of_threads_changes_no_bit(images):
    arguments = *example(images, 40, 24, 7, 6), True
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            results.append(backward(*arguments))
    finally:
        torch.set_num_threads(before)
    for one in results[1:]:
        assert all(torch.equal(found, expected) for found, expected in zip(one, results[0], strict=True))


@served
@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, torch.randn(2, 6, 3, 2), "grad: of the output's size"),
        (0, torch.randn(2, 4, 3, 3), "grad: of the output's size"),
        (0, torch.randn(1, 6, 3, 3), "grad: of the output's size"),
        (0, torch.randn(2, 6, 3, 3).double(), "grad: float32"),
        (1, torch.randn(2, 4, 5, 5).half(), "x: float32"),
        (1, torch.randn(4, 5, 5), "x: float32 in four dimensions"),
        (1, torch.randn(2, 0, 5, 5), "x: at least one channel"),
        (2, torch.randn(6, 5, 3, 3), "weight: "),
        (2, torch.randn(0, 4, 3, 3), "weight: "),
        (2, torch.randn(6, 4, 5, 5), "weight: "),
    ],
)
def test_what_does_not_fit_is_refused(place, value, said):
    arguments: list[Any] = [*example(2, 4, 6, 5, 5), True]
    backward(*arguments)
    arguments[place] = value
    with pytest.raises(ValueError, match=said) as error:
        backward(*arguments)
    assert "\n" not in str(error.value)
    if place > 0 and value.dtype != torch.float16:
        with pytest.raises(ValueError, match=said.split(":")[0]):
            strided_convolution(*arguments[1:3])


@served
@pytest.mark.parametrize("shape", [(2, 5, 6, 7, 4), (3, 8, 2, 1, 1), (2, 1, 1, 4, 4)])
def test_torch_checks_both_operators(shape):
    grad, x, weight = example(*shape)
    operators = torch.ops.fastcifar_kernels
    for needs_dx in (True, False):
        results = torch.library.opcheck(operators.strided_convolution_backward.default, (grad, x, weight, needs_dx))
        assert set(results.values()) == {"SUCCESS"}
    for layout in (torch.channels_last, torch.contiguous_format):
        inputs = x.contiguous(memory_format=layout).requires_grad_(), weight.clone().requires_grad_()
        assert set(torch.library.opcheck(operators.strided_convolution.default, inputs).values()) == {"SUCCESS"}


@served
def test_the_operator_survives_compilation_in_one_graph():
    grad, x, weight = example(3, 16, 8, 6, 6)

    def gradients(call: Any) -> tuple[Tensor, ...]:
        inputs = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = call(*inputs)
        return y, *torch.autograd.grad(y, inputs, grad)

    def layer(x: Tensor, weight: Tensor) -> Tensor:
        return strided_convolution(x.relu(), weight) * 2

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for found, expected in zip(gradients(compiled), gradients(layer), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_layer_trains_as_with_torchs_convolution(monkeypatch):
    torch.manual_seed(0)
    layer = Convolution(12, 24, stride=2).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    assert next(iter(layer.state_dict())) == "conv.weight"
    x = torch.randn(6, 12, 9, 8).contiguous(memory_format=torch.channels_last)
    found = gradients_of(layer, x)
    monkeypatch.setitem(BACKENDS, "cpu", Backend("strided_convolution", "cpu", "none", "no C++17 compiler was found"))
    for one, other in zip(found, gradients_of(layer, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@served
def test_the_operator_serves_what_it_is_fast_at_and_torch_the_rest(monkeypatch):
    x, name = torch.randn(2, 8, 6, 6), "strided_convolution"
    assert is_served(name, Dense(8, 4, stride=2), x)
    assert not is_served(name, Dense(8, 4), x)
    assert not is_served(name, Dense(8, 4, stride=2, dilation=2), x)
    assert not is_served(name, Dense(8, 4, stride=3), x)
    assert not is_served(name, Dense(8, 4, stride=2).eval(), x)
    assert not is_served(name, Dense(8, 4, stride=2).double(), x.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_served(name, Dense(8, 4, stride=2), x)
    monkeypatch.setitem(BACKENDS, "cpu", Backend(name, "cpu", "none", "no C++17 compiler was found"))
    assert not is_served(name, Dense(8, 4, stride=2), x)


def test_cuda_is_left_to_torch_with_a_reason():
    assert BACKENDS["cuda"].used == "torch"
    assert "torch's own convolution" in BACKENDS["cuda"].reason
