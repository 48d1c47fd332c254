"""Batch-norm folded for evaluation: the same logits, the network untouched."""

import copy

import pytest
import torch
from torch import nn

from fastcifar.evaluation.folded import folded
from fastcifar.model.registry import build_model


def trained_somehow(name: str) -> nn.Module:
    """Statistics and weights as far from their start as training takes them."""
    torch.manual_seed(1)
    model = build_model(name)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.01, 4)
            nn.init.uniform_(norm.weight, -1, 2)
            nn.init.normal_(norm.bias)
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])
def test_the_logits_stay_and_no_batch_norm_is_left(name):
    model = trained_somehow(name).train()
    before = copy.deepcopy(model.state_dict())
    images = torch.randn(7, 3, 21, 32).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        found = folded(model)(images)
        expected = copy.deepcopy(model).eval().double()(images.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded(model).modules())
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["assignment-151k", "assignment-671k"])
def test_layers_of_others_stay_as_they_are(name):
    model = trained_somehow(name)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(folded(model)(images), model.eval()(images))
