"""The networks: the course's constraints, shapes, blocks, the receptive field and the whitened stem."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastcifar.errors import UsageError
from fastcifar.model.layers import Convolution, DepthwiseSeparable, Stem
from fastcifar.model.receptive_field import receptive_field
from fastcifar.model.registry import MODELS, build_model, count_parameters


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("c1c2c3c40")])
def test_the_courses_constraints_hold(name: str) -> None:
    model = build_model(name)
    layers = list(model.modules())
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert count_parameters(model) < 200_000
    assert receptive_field(model) > 44
    assert not any(isinstance(layer, nn.MaxPool2d) for layer in layers)
    assert any(isinstance(layer, nn.AdaptiveAvgPool2d) for layer in layers)
    assert sum(c.stride == (2, 2) for c in convolutions) >= 3
    assert any(c.dilation != (1, 1) for c in convolutions)
    depthwise = [c for c in convolutions if c.groups == c.in_channels > 1]
    assert depthwise
    names = dict(model.named_modules())
    assert any(isinstance(layer, DepthwiseSeparable) for layer in names.values())


@pytest.mark.parametrize("name", [name for name in MODELS if name.startswith("c1c2c3c40")])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 16), (23, 41), (8, 9)])
def test_any_image_size_gives_logits(name: str, height: int, width: int) -> None:
    model: Any = build_model(name, classes=7).eval()
    images = torch.randn(2, 3, height, width).contiguous(memory_format=torch.channels_last)
    assert model(images).shape == (2, 7)
    assert model.features(images).is_contiguous(memory_format=torch.channels_last)


def test_unknown_networks_are_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean c1c2c3c40-speed"):
        build_model("c1c2c3c4-speed")


@pytest.mark.parametrize("block", [Convolution, DepthwiseSeparable])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_blocks_equal_their_formula_in_float64(block: Any, stride: int, dilation: int) -> None:
    torch.manual_seed(stride * 10 + dilation)
    layer = block(5, 7, stride, dilation).double().train()
    x = torch.randn(3, 5, 11, 9, dtype=torch.float64)
    if block is DepthwiseSeparable:
        y = F.conv2d(x, layer.depthwise.weight, stride=stride, padding=dilation, dilation=dilation, groups=5)
        y = torch.einsum("bihw,oi->bohw", y, layer.pointwise.weight[:, :, 0, 0])
    else:
        y = F.conv2d(x, layer.conv.weight, stride=stride, padding=dilation, dilation=dilation)
    mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(layer(x), ((y - mean) / (variance + layer.norm.eps).sqrt()).clamp(min=0))


@pytest.mark.parametrize("block", [Convolution, DepthwiseSeparable])
def test_a_residual_block_adds_its_input(block: Any) -> None:
    layer = block(6, 6, residual=True).eval()
    nn.init.zeros_(layer.norm.weight)
    x = torch.randn(2, 6, 8, 8)
    torch.testing.assert_close(layer(x), x.clamp(min=0))
    with pytest.raises(ValueError, match="6 -> 6 with stride 2"):
        block(6, 6, stride=2, residual=True)


def test_a_widening_convolution_starts_as_a_copy() -> None:
    layer = Convolution(3, 5)
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(layer.conv(x)[:, :3], x)


def test_the_whitened_stem_decorrelates_patches() -> None:
    torch.manual_seed(0)
    smooth = F.avg_pool2d(torch.randn(64, 3, 40, 40), 5, stride=1, padding=2)[..., 4:36, 4:36]
    images = smooth / smooth.std()
    stem: Any = Stem(54)
    stem.whiten(images, epsilon=0.0)
    responses = F.conv2d(images, stem.conv.weight).permute(1, 0, 2, 3).flatten(1).double()
    second_moment = responses @ responses.T / responses.shape[1]
    torch.testing.assert_close(second_moment[:27, :27], torch.eye(27, dtype=torch.float64), atol=2e-3, rtol=0)
    torch.testing.assert_close(responses[27:], -responses[:27])
    assert not stem.conv.weight.requires_grad
    assert not stem.conv.bias.requires_grad
    assert not stem.conv.bias.any()
    assert not stem(images).requires_grad


def test_a_stem_that_cannot_be_whitened_says_so() -> None:
    for outputs in (23, 56):
        with pytest.raises(ValueError, match="even number"):
            Stem(outputs).whiten(torch.randn(4, 3, 8, 8))


class Body(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x).mean((2, 3))


def test_receptive_field_of_known_networks() -> None:
    """Formula: 1 + sum of (kernel - 1) * dilation * product of earlier strides."""
    assert receptive_field(Body(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))) == 5
    assert receptive_field(Body(nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3, dilation=2))) == 11
    assert receptive_field(Body(nn.Conv2d(3, 4, 5, stride=3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))) == 5
    assert receptive_field(Body(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 2, padding=1))) == 10
    assert receptive_field(Body(DepthwiseSeparable(3, 8, stride=2), DepthwiseSeparable(8, 8, residual=True))) == 7


def test_receptive_field_does_not_fade_in_a_deep_network() -> None:
    layers = [nn.Conv2d(3, 8, 3, padding=1)] + [Convolution(8, 8, residual=True) for _ in range(30)]
    assert receptive_field(Body(*layers)) == 63


def test_receptive_field_beyond_the_probe_is_an_error() -> None:
    with pytest.raises(ValueError, match="larger image_size"):
        receptive_field(Body(nn.Conv2d(3, 4, 33, padding=16)), image_size=31)
