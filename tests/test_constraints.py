"""The assignment's rules: each with networks that keep it and, planted, networks that break it."""

from typing import Any

import pytest
import torch.nn.functional as F
import torchvision
from test_summary import Functional, conv, pooled
from torch import nn

from fastcifar.errors import UsageError
from fastcifar.model.constraints import RULES, Finding, check_constraints
from fastcifar.model.registry import build_model


def finding(model: nn.Module, rule: str, **settings: Any) -> Finding:
    others = [name for name in RULES if name != rule]
    (found,) = check_constraints(model, leave_out=others, **settings)
    return found


@pytest.mark.parametrize("name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])
def test_our_networks_keep_all_rules(name: str) -> None:
    findings = check_constraints(build_model(name))
    assert [found.rule for found in findings] == list(RULES)
    assert all(found.holds for found in findings)


def test_resnet18_breaks_four() -> None:
    broken = {f.rule: f.evidence for f in check_constraints(torchvision.models.resnet18()) if not f.holds}
    assert broken.keys() == {"parameters", "no-max-pool", "depthwise-separable", "dilated"}
    assert broken["parameters"] == "11,689,512"
    assert broken["no-max-pool"] == "maxpool (MaxPool2d)"


@pytest.mark.parametrize(("most", "holds"), [(30, False), (31, True)])
def test_parameters_must_be_fewer(most: int, holds: bool) -> None:
    assert finding(pooled(conv(3, 3, bias=False), conv(3, 1, 1)), "parameters", max_parameters=86).holds
    assert finding(pooled(conv(3, 10, 1, bias=False)), "parameters", max_parameters=most).holds is holds


@pytest.mark.parametrize(("least", "holds"), [(4, True), (5, False)])
def test_the_receptive_field_must_be_larger(least: int, holds: bool) -> None:
    assert finding(pooled(conv(3, 4, 5)), "receptive-field", min_receptive_field=least).holds is holds


def test_a_receptive_field_that_cannot_be_proven_fails() -> None:
    found = finding(nn.Sequential(conv(3, 4), nn.Flatten(), nn.Linear(3600, 10)), "receptive-field")
    assert not found.holds
    assert "no global average pooling" in found.evidence


@pytest.mark.parametrize(
    "body",
    [
        lambda net, x: F.max_pool2d(net.a(x), 2).mean((2, 3)),
        lambda net, x: F.adaptive_max_pool2d(net.a(x), 4).mean((2, 3)),
        lambda net, x: net.a(x).amax((2, 3)),
        lambda net, x: net.a(x).max(3).values.max(2).values,
        lambda net, x: F.max_pool1d(net.a(x).flatten(2), 2),
    ],
)
def test_max_pooling_by_a_function_is_seen(body: Any) -> None:
    assert not finding(Functional(body, a=conv(3, 4)), "no-max-pool").holds
    assert finding(Functional(lambda net, x: net.a(x).amax(1), a=conv(3, 4)), "no-max-pool").holds


def test_a_max_pooling_that_never_runs_does_not_count() -> None:
    assert finding(Functional(lambda net, x: net.a(x), a=conv(3, 4), unused=nn.MaxPool2d(2)), "no-max-pool").holds


DEPTHWISE = conv(4, 8, groups=4)


@pytest.mark.parametrize(
    ("layers", "holds"),
    [
        ([DEPTHWISE, conv(8, 5, 1)], True),
        ([DEPTHWISE, nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), conv(8, 5, 1)], True),
        ([DEPTHWISE, nn.ChannelShuffle(2), conv(8, 5, 1)], True),
        ([DEPTHWISE, conv(8, 5, 3)], False),
        ([DEPTHWISE, nn.AvgPool2d(2), conv(8, 5, 1)], False),
        ([conv(4, 8, groups=2), conv(8, 5, 1)], False),
        ([conv(4, 4, 1, groups=4), conv(4, 5, 1)], False),
        ([conv(4, 5, 1), conv(5, 5, groups=5)], False),
    ],
)
def test_depthwise_separable_is_depthwise_then_pointwise(layers: list[nn.Module], holds: bool) -> None:
    found = finding(pooled(conv(3, 4), *layers), "depthwise-separable")
    assert found.holds is holds
    if holds:
        assert found.evidence == f"1 + {len(layers)}"


def test_dilated() -> None:
    assert finding(pooled(conv(3, 4, dilation=2)), "dilated").evidence == "0 dilation 2"
    assert not finding(pooled(conv(3, 4, 1, dilation=2)), "dilated").holds
    assert not finding(pooled(conv(3, 4)), "dilated").holds


def test_global_pooling() -> None:
    assert finding(pooled(conv(3, 4)), "global-pooling").evidence == "1 (AdaptiveAvgPool2d)"
    squeeze = Functional(
        lambda net, x: net.b((x * net.a(F.adaptive_avg_pool2d(x, 1))).flatten(1)),
        a=conv(3, 3, 1),
        b=nn.Linear(3072, 10),
    )
    assert not finding(squeeze, "global-pooling").holds
    assert not finding(nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(2)), "global-pooling").holds


def test_reductions_are_counted_along_one_path() -> None:
    strided = [conv(4, 4, stride=2, padding=1) for _ in range(3)]
    assert finding(pooled(conv(3, 4), *strided), "reductions").evidence == "1 stride 2, 2 stride 2, 3 stride 2"
    assert finding(pooled(conv(3, 4), *strided[:2], conv(4, 4, dilation=2)), "reductions").holds
    assert not finding(pooled(conv(3, 4), *strided[:2], nn.AvgPool2d(2)), "reductions").holds
    # Two residual blocks, each with a strided shortcut beside its strided convolution, are two reductions, not four.
    both = Functional(
        lambda net, x: net.d(x := net.a(x) + net.b(x)).add(net.c(x)).mean((2, 3)),
        a=conv(3, 4, stride=2, padding=1),
        b=conv(3, 4, 1, stride=2),
        c=conv(4, 4, stride=2, padding=1),
        d=conv(4, 4, 1, stride=2),
    )
    assert not finding(both, "reductions").holds


def test_rules_that_do_not_exist_cannot_be_left_out() -> None:
    with pytest.raises(UsageError, match="known: parameters"):
        check_constraints(build_model("c1c2c3c40-speed"), leave_out=["batch-norm"])
