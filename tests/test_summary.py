"""The layer table: costs and receptive fields by hand, by torch's own counter, and by torchvision's figures."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fastcifar.errors import UsageError
from fastcifar.model.layer_table import markdown_lines, text_lines
from fastcifar.model.receptive_field import receptive_field, support
from fastcifar.model.registry import MODELS, build_model
from fastcifar.model.summary import LayerRow, summarise
from fastcifar.model.trace import trace


class Functional(nn.Module):
    """Modules only where there are weights; everything else through functions."""

    def __init__(self, body: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.body = body
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def row(model: nn.Module, name: str, image_size: int = 32) -> LayerRow:
    (found,) = (r for r in summarise(model, image_size).layers if r.name == name)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_macs_are_half_of_the_operations_that_torch_counts(name: str) -> None:
    model = build_model(name).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert 2 * summarise(model).macs == counter.get_total_flops()


def test_our_speed_network() -> None:
    found = summarise(build_model("c1c2c3c40-speed"))
    assert (found.parameters, found.receptive_field, found.receptive_field_formula) == (126_346, 61, 61)
    assert sum(layer.parameters for layer in found.layers) == 126_346
    assert sum(layer.macs for layer in found.layers) == found.macs
    assert found.parameters_mib == pytest.approx(126_346 * 4 / 2**20)


def test_resnet18_as_torchvision_describes_it() -> None:
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    model = torchvision.models.resnet18()
    found = trace(model, 224)
    macs = sum(operation.macs for operation in found.operations)
    assert sum(p.numel() for p in found.model.parameters()) == weights.meta["num_params"] == 11_689_512
    # torchvision rounds to a thousandth of 10^9 multiply-accumulates.
    assert macs / 1e9 == pytest.approx(weights.meta["_ops"], abs=5e-4)
    small = summarise(model)
    assert (small.parameters, small.receptive_field, small.receptive_field_formula) == (11_689_512, 435, 435)
    assert small.layers[0].name == "conv1"
    assert [layer.type for layer in small.layers].count("add") == 8


def test_costs_and_geometry_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, (3, 5), stride=(2, 1), padding=(1, 2), bias=True),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 16, 3, dilation=2, groups=4, bias=False),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    model[5].bias.requires_grad_(False)
    first, norm, second, pool, flat, last = summarise(model).layers
    assert (first.output_shape, first.parameters, first.macs) == ((1, 8, 16, 32), 8 * 3 * 15 + 8, 8 * 16 * 32 * 3 * 15)
    assert (first.kernel, first.stride, first.padding, first.dilation) == ((3, 5), (2, 1), (1, 2), (1, 1))
    assert (first.groups, first.jump, first.receptive_field) == (1, 2, 5)
    assert (norm.type, norm.parameters, norm.macs, norm.kernel, norm.receptive_field) == ("BatchNorm2d", 16, 0, None, 5)
    assert (second.output_shape, second.macs) == ((1, 16, 12, 28), 16 * 12 * 28 * 2 * 9)
    # Rows: 3 + 4 * 2; columns: 5 + 4 * 1.
    assert (second.groups, second.receptive_field) == (4, 11)
    assert (pool.receptive_field, flat.output_shape) == (float("inf"), (1, 16))
    assert (last.parameters, last.macs) == (170, 160)
    found = summarise(model)
    assert (found.parameters, found.trainable_parameters) == (368 + 16 + 288 + 170, 368 + 16 + 288 + 160)
    assert (found.receptive_field, found.receptive_field_formula) == (11, 11)


def pooled(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))


def conv(inputs: int, outputs: int, kernel: int = 3, **how: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, **how)


BRANCHES = Functional(
    lambda net, x: (net.wide(x) + net.narrow(x)).mean((2, 3)), wide=conv(3, 4, 7, padding=3), narrow=conv(3, 4, 1)
)
ATTENTION = Functional(lambda net, x: (x * net.a(x.mean((2, 3), keepdim=True)).sigmoid()).mean((2, 3)), a=conv(3, 3, 1))
SKIPPING = Functional(lambda net, x: net.b(net.a(x)[:, :, 1::2, 1::2]).mean((2, 3)), a=conv(3, 4), b=conv(4, 4))
KNOWN = {
    # The formula: 1 + sum of (kernel - 1) * dilation * product of earlier strides.
    "strides": (pooled(conv(3, 4, stride=2), conv(4, 4, stride=2), conv(4, 4)), 15),
    "dilation": (pooled(conv(3, 4, stride=2), conv(4, 4, dilation=3)), 15),
    "max-pooling": (pooled(conv(3, 4), nn.MaxPool2d(2), conv(4, 4), nn.MaxPool2d(3, 2, 1)), 12),
    "dilated max-pooling": (pooled(nn.MaxPool2d(3, 1, dilation=4), conv(3, 4, 1)), 9),
    "ceiled max-pooling": (pooled(conv(3, 4, stride=2, padding=1), nn.MaxPool2d(3, 2, ceil_mode=True)), 7),
    "average pooling": (pooled(conv(3, 4), nn.AvgPool2d(2), conv(4, 4)), 8),
    "two axes": (pooled(conv(3, 4, (1, 9)), conv(4, 4, (3, 1))), 9),  # pyright: ignore[reportArgumentType]
    "branches": (BRANCHES, 7),
    "slices": (SKIPPING, 7),
    "padding by a function": (
        Functional(lambda net, x: net.a(F.pad(x, (1, 2, 3, 4), mode="reflect")).mean((2, 3)), a=conv(3, 4, 5)),
        5,
    ),
    "mean of a flattened map": (Functional(lambda net, x: net.a(x).flatten(2).mean(-1), a=conv(3, 4, 5)), 5),
    "mean by rows and columns": (Functional(lambda net, x: net.a(x).mean(3).mean(2), a=conv(3, 4, 5)), 5),
    "average pooling of all": (Functional(lambda net, x: F.avg_pool2d(net.a(x), 30).flatten(1), a=conv(3, 4)), 3),
    "convolution after the pooling": (nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1), conv(4, 10, 1)), 3),
    "channels last": (
        Functional(
            lambda net, x: net.b(net.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).mean((2, 3)),
            a=conv(3, 4),
            b=nn.Linear(4, 6),
        ),
        3,
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_receptive_fields_by_hand(name: str) -> None:
    model, expected = KNOWN[name]
    found = summarise(model)
    assert (found.receptive_field, found.receptive_field_formula) == (expected, expected)


def test_saturating_activations_and_many_residuals_hide_nothing() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return x + F.relu6(self.conv(x))

    model = pooled(nn.Conv2d(3, 4, 1), *(Block() for _ in range(25)), nn.Hardtanh(), nn.Hardswish(), nn.Conv2d(4, 4, 1))
    assert receptive_field(model) == 51


def test_the_proof_overrules_the_formula_where_they_differ() -> None:
    """Shifts by a pixel, which the formula does not know, see a neighbour each."""
    found = summarise(Functional(lambda net, x: (x + net.a(x).roll(2, 3)).mean((2, 3)), a=conv(3, 3, 1)))
    assert (found.receptive_field, found.receptive_field_formula) == (3, None)


def test_attention_over_the_whole_image_sees_the_whole_image() -> None:
    found = summarise(ATTENTION)
    assert found.receptive_field == found.receptive_field_formula == float("inf")
    assert found.as_dict()["receptive_field"] is None
    assert "whole image" in found.as_dict()["receptive_field_note"]


def test_where_it_cannot_be_proven_one_line_says_so() -> None:
    found = summarise(nn.Sequential(conv(3, 4), nn.Flatten(), nn.Linear(4 * 900, 10)))
    assert found.receptive_field is None
    assert "no global average pooling" in str(found.receptive_field_note)
    fixed = Functional(lambda net, x: (net.a(x) + torch.ones(4, 30, 30)).mean((2, 3)), a=conv(3, 4))
    note = str(summarise(fixed).receptive_field_note)
    assert "cannot be proven" in note
    assert "\n" not in note


def test_a_probe_that_is_too_small_is_noticed() -> None:
    model = pooled(conv(3, 4, 9))
    assert support(trace(model), 9) is None
    assert support(trace(model), 21) == 9


def test_functions_have_rows_of_their_own() -> None:
    scaled = Functional(
        lambda net, x: (F.max_pool2d(F.conv2d(x, net.spare.weight), 2) * net.scale.weight).mean((2, 3)),
        spare=conv(3, 4, bias=True),
        scale=nn.PReLU(),
    )
    found = summarise(scaled)
    assert [layer.type for layer in found.layers] == ["conv2d", "max_pool2d", "mul", "mean"]
    assert [layer.parameters for layer in found.layers] == [108, 0, 1, 0]
    assert found.layers[1].kernel == (2, 2)
    # The bias of the convolution takes no part.
    assert text_lines(found)[-1].split() == ["Not", "run:", "4", "params", "are", "of", "no", "layer", "above"]


def test_a_module_that_runs_twice_counts_its_parameters_once() -> None:
    shared = conv(4, 4, padding=1)
    found = summarise(pooled(conv(3, 4), shared, nn.ReLU(), shared))
    assert [layer.parameters for layer in found.layers] == [112, 148, 0, 0, 0]
    assert found.layers[1].macs == found.layers[3].macs == 4 * 30 * 30 * 4 * 9
    assert found.receptive_field == 7


def test_the_network_itself_is_left_alone() -> None:
    model = build_model("c1c2c3c40-speed").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    summarise(model)
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_that_does_not_fit_is_one_line() -> None:
    with pytest.raises(UsageError, match="3x32x32"):
        summarise(nn.Linear(7, 7))


def test_tables() -> None:
    found = summarise(build_model("c1c2c3c40-speed"))
    lines = text_lines(found)
    assert lines[1].split()[:7] == ["Layer", "(type)", "Output", "Shape", "Param", "#", "MACs"]
    assert max(map(len, lines)) <= 100
    (stem,) = (line for line in lines if line.startswith("stem.conv"))
    assert " ".join(stem.split()) == "stem.conv (Conv2d) [-1, 24, 32, 32] 672 663,552 3x3 1 1 1 1 1 3"
    assert "| stem.conv (Conv2d) | [-1, 24, 32, 32] | 672 | 663,552 | 3x3 | 1 | 1 | 1 | 1 | 1 | 3 |" in markdown_lines(
        found
    )
    narrow = text_lines(summarise(torchvision.models.resnet18()), 100)
    assert max(map(len, narrow)) == 100
    assert any(line.startswith("…") and "(BatchNorm2d)" in line for line in narrow)
    content = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert content["layers"][0]["kernel"] == [3, 3]
    assert content["layers"][-1]["receptive_field"] is None
