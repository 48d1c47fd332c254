"""The operator `depthwise`: both gradients beside float64, any place in memory, what is refused, torch's own checks."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from operator_checks import assert_near, gradients_of, is_served
from torch import Tensor

from fastcifar.model.layers import Depthwise, DepthwiseSeparable
from fastcifar_kernels.backend import Backend
from fastcifar_kernels.depthwise import BACKENDS, depthwise

SIZES = [(1, 1), (1, 6), (2, 2), (4, 4), (3, 5), (7, 9), (16, 16)]
CHANNELS = [1, 3, 5, 16, 40, 96]
served = pytest.mark.skipif(BACKENDS["cpu"].used == "none", reason=BACKENDS["cpu"].reason)


def backward(*arguments: Any) -> tuple[Tensor, Tensor]:
    return torch.ops.fastcifar_kernels.depthwise_backward.default(*arguments)


def example(images: int, channels: int, height: int, width: int, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Upstream gradient, input, weight; float32, channels_last."""
    generator = torch.Generator().manual_seed(channels * 100 + height * 10 + width)
    rows, columns = (-(-size // stride) for size in (height, width))
    shapes = (images, channels, rows, columns), (images, channels, height, width), (channels, 1, 3, 3)
    grad, x, weight = (torch.randn(shape, generator=generator) for shape in shapes)
    grad, x = (one.contiguous(memory_format=torch.channels_last) for one in (grad, x))
    return grad, x, weight


def in_float64(grad: Tensor, x: Tensor, weight: Tensor, stride: int, dilation: int) -> tuple[Tensor, Tensor, Tensor]:
    """Output and both gradients of torch's convolution."""
    wide_x, wide_weight = (one.detach().double().requires_grad_() for one in (x, weight))
    y = F.conv2d(wide_x, wide_weight, None, stride, dilation, dilation, x.shape[1])
    dx, dweight = torch.autograd.grad(y, (wide_x, wide_weight), grad.double())
    return y, dx, dweight


@served
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("channels", CHANNELS)
def test_output_and_gradients_equal_float64(channels, stride, dilation):
    for height, width in SIZES:
        grad, x, weight = example(5, channels, height, width, stride)
        own = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = depthwise(own[0], own[1], stride, dilation)
        wanted = in_float64(grad, x, weight, stride, dilation)
        for found, expected in zip((y, *torch.autograd.grad(y, own, grad)), wanted, strict=True):
            assert_near(found, expected)


@served
@pytest.mark.parametrize(("images", "channels", "side"), [(512, 96, 4), (512, 96, 2), (300, 24, 9), (67, 11, 24)])
def test_sums_over_many_images_stay_accurate(images, channels, side):
    """More images than chunks, and a last chunk that is not full."""
    arguments = *example(images, channels, side, side, 1), 1, 2
    for found, expected in zip(backward(*arguments), tap_by_tap(*arguments[:3], dilation=2), strict=True):
        assert_near(found, expected)


def tap_by_tap(grad: Tensor, x: Tensor, weight: Tensor, dilation: int) -> tuple[Tensor, ...]:
    """Both gradients in float64, as sums of shifted images: torch's convolution takes a minute over the largest."""
    wide_x, wide_weight = (one.detach().double().requires_grad_() for one in (x, weight))
    padded = F.pad(wide_x, [dilation] * 4)
    rows, columns = x.shape[2:]
    y = torch.zeros_like(wide_x)
    for down in range(3):
        for right in range(3):
            top, left = down * dilation, right * dilation
            y = y + wide_weight[:, 0, down, right, None, None] * padded[..., top : top + rows, left : left + columns]
    return torch.autograd.grad(y, (wide_x, wide_weight), grad.double())


def test_tap_by_tap_is_torchs_convolution():
    arguments = example(2, 5, 7, 9, 1)
    for found, expected in zip(tap_by_tap(*arguments, dilation=2), in_float64(*arguments, 1, 2)[1:], strict=True):
        torch.testing.assert_close(found, expected)


@served
@pytest.mark.parametrize("tap", range(9))
def test_an_offset_of_one_pixel_or_another_tap_would_be_seen(tap):
    """A weight of a single 1 moves the image by the dilation: exact values, and no two taps alike."""
    x = torch.arange(1.0, 36.0).reshape(1, 1, 5, 7).requires_grad_()
    weight = torch.zeros(1, 1, 3, 3)
    weight.view(-1)[tap] = 1
    weight.requires_grad_()
    down, right = (tap // 3 - 1) * 2, (tap % 3 - 1) * 2
    padded = F.pad(x.detach(), (2, 2, 2, 2))
    y = depthwise(x, weight, 1, 2)
    assert torch.equal(y, padded[:, :, 2 + down : 7 + down, 2 + right : 9 + right])
    at = torch.zeros(1, 1, 5, 7)
    at[0, 0, 2, 3] = 1
    dx, dweight = torch.autograd.grad(y, (x, weight), at)
    assert dx.nonzero().tolist() == [[0, 0, 2 + down, 3 + right]]
    assert torch.equal(dweight[0, 0], x.detach()[0, 0, 0:5:2, 1:6:2])


@served
def test_tensors_in_any_order_of_dimensions_and_with_gaps():
    grad, x, weight = example(4, 12, 6, 5, 1)
    wanted = backward(grad, x, weight, 1, 2)
    wide = torch.full((4, 24, 6, 11), torch.nan)
    wide[:, ::2, :, 1::2] = x
    variants = [
        (grad.contiguous(), x.contiguous(), weight),
        (grad, wide[:, ::2, :, 1::2], weight.contiguous(memory_format=torch.channels_last)),
        (grad.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0), x, weight.transpose(2, 3).clone().transpose(2, 3)),
    ]
    for variant in variants:
        for found, expected in zip(backward(*variant, 1, 2), wanted, strict=True):
            assert torch.equal(found, expected)
    one = torch.ones(()).expand(4, 12, 6, 5)
    for found, expected in zip(backward(one, x, weight, 1, 2), in_float64(one, x, weight, 1, 2)[1:], strict=True):
        assert_near(found, expected)


@served
@pytest.mark.parametrize("needed", [0, 1])
def test_where_only_one_gradient_is_needed(needed):
    grad, x, weight = example(3, 16, 5, 5, 2)
    inputs = x, weight
    inputs[needed].requires_grad_()
    depthwise(x, weight, 2, 2).backward(grad)
    assert inputs[1 - needed].grad is None
    found = inputs[needed].grad
    assert found is not None
    assert_near(found, in_float64(grad, x, weight, 2, 2)[1 + needed])


@served
def test_no_image_gives_no_gradient_of_the_weight():
    dx, dweight = backward(*example(0, 9, 4, 4, 1), 1, 2)
    assert dx.shape == (0, 9, 4, 4)
    assert torch.equal(dweight, torch.zeros(9, 1, 3, 3))


@served
@pytest.mark.parametrize("images", [1, 65, 200])
def test_the_number_of_threads_changes_no_bit(images):
    arguments = *example(images, 40, 7, 6, 1), 1, 2
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
        (0, torch.randn(2, 4, 3, 2), "grad: of the output's size"),
        (0, torch.randn(1, 4, 3, 3), "grad: of the output's size"),
        (0, torch.randn(2, 4, 3, 3).double(), "grad: float32"),
        (1, torch.randn(2, 4, 5, 5).half(), "x: float32"),
        (1, torch.randn(4, 5, 5), "x: float32 in four dimensions"),
        (1, torch.randn(2, 0, 5, 5), "x: at least one channel"),
        (2, torch.randn(5, 1, 3, 3), "weight: "),
        (2, torch.randn(4, 4, 3, 3), "weight: "),
        (2, torch.randn(4, 1, 5, 5), "weight: "),
        (3, 0, "stride, dilation: 1 or more"),
        (4, 0, "stride, dilation: 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused(place, value, said):
    arguments: list[Any] = [*example(2, 4, 5, 5, 2), 2, 2]
    backward(*arguments)
    arguments[place] = value
    with pytest.raises(ValueError, match=said) as error:
        backward(*arguments)
    assert "\n" not in str(error.value)
    if place > 0 and not (isinstance(value, Tensor) and value.dtype == torch.float16):
        with pytest.raises(ValueError, match=said.split(":")[0]):
            depthwise(*arguments[1:])  # pyright: ignore[reportCallIssue]


@served
@pytest.mark.parametrize("shape", [(2, 5, 7, 4), (3, 8, 1, 1), (2, 1, 4, 4)])
def test_torch_checks_both_operators(shape):
    grad, x, weight = example(*shape, stride=2)
    operators = torch.ops.fastcifar_kernels
    results = torch.library.opcheck(operators.depthwise_backward.default, (grad, x, weight, 2, 2))
    assert set(results.values()) == {"SUCCESS"}
    for layout in (torch.channels_last, torch.contiguous_format):
        inputs = x.contiguous(memory_format=layout).requires_grad_(), weight.clone().requires_grad_(), 2, 2
        assert set(torch.library.opcheck(operators.depthwise.default, inputs).values()) == {"SUCCESS"}


@served
def test_the_operator_survives_compilation_in_one_graph():
    grad, x, weight = example(3, 16, 6, 6, 1)

    def gradients(call: Any) -> tuple[Tensor, ...]:
        inputs = x.clone().requires_grad_(), weight.clone().requires_grad_()
        y = call(*inputs)
        return y, *torch.autograd.grad(y, inputs, grad)

    def layer(x: Tensor, weight: Tensor) -> Tensor:
        return depthwise(x.relu(), weight, 1, 2) * 2

    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for found, expected in zip(gradients(compiled), gradients(layer), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("stride", "residual"), [(1, True), (2, False)])
def test_a_block_trains_as_with_torchs_convolution(monkeypatch, stride, residual):
    torch.manual_seed(0)
    block = DepthwiseSeparable(24, 24, stride, dilation=2, residual=residual).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    assert next(iter(block.state_dict())) == "depthwise.weight"
    x = torch.randn(6, 24, 5, 4).contiguous(memory_format=torch.channels_last)
    found = gradients_of(block, x)
    monkeypatch.setitem(BACKENDS, "cpu", Backend("depthwise", "cpu", "none", "no C++17 compiler was found"))
    expected = gradients_of(block, x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@served
def test_the_operator_serves_what_it_is_fast_at_and_torch_the_rest(monkeypatch):
    x = torch.randn(2, 8, 6, 6)

    assert is_served("depthwise", Depthwise(8, dilation=2), x)
    assert not is_served("depthwise", Depthwise(8), x)
    assert not is_served("depthwise", Depthwise(8, dilation=2).eval(), x)
    assert not is_served("depthwise", Depthwise(8, dilation=2).double(), x.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_served("depthwise", Depthwise(8, dilation=2), x)
    monkeypatch.setitem(BACKENDS, "cpu", Backend("depthwise", "cpu", "none", "no C++17 compiler was found"))
    assert not is_served("depthwise", Depthwise(8, dilation=2), x)


def test_cuda_is_left_to_torch_with_a_reason():
    assert BACKENDS["cuda"].used == "torch"
    assert "torch's own convolution" in BACKENDS["cuda"].reason
