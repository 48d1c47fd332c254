"""Folded batch-norm computes the same, and is folded only where it may be."""

from typing import Any

import pytest
import torch
from torch import nn
from trained_runs import random_model

from fastcifar.model.fold import fold_batch_norm
from fastcifar.model.registry import MODELS


def folded(model: nn.Module, images: torch.Tensor) -> tuple[Any, int, int]:
    graph: Any = torch.export.export(model, (images,)).module()
    return graph, *fold_batch_norm(graph)


def targets(graph: Any) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("name", MODELS)
def test_every_network_folded_equals_itself(name: str) -> None:
    model = random_model(name)
    images = torch.randn(7, 3, 32, 32)
    graph, count, found = folded(model, images)
    assert found == sum(isinstance(layer, nn.BatchNorm2d) for layer in model.modules())
    assert sum("batch_norm" in target for target in targets(graph)) == found - count
    if name.startswith("c1c2c3c40"):
        assert count == found
    torch.testing.assert_close(graph(images), model(images), rtol=1e-4, atol=1e-4)


def normalised(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.2, 2.0)
    norm.running_var[0] = norm.eps
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


class Reused(nn.Module):
    """A convolution that is called twice, and one whose result is read before its batch-norm."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.read = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.first, self.second, self.third = normalised(4), normalised(4), normalised(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.twice(self.first(self.twice(x))))
        y = self.read(x)
        return self.third(y) + y


@pytest.mark.parametrize(
    ("layers", "count"),
    [
        ([nn.Conv2d(4, 6, 3, bias=False), normalised(6)], 1),
        ([nn.Conv2d(4, 6, 3, stride=2, dilation=2, padding=2), normalised(6), nn.ReLU(inplace=True)], 1),
        ([nn.Sequential(nn.Conv2d(4, 8, 3, groups=4), nn.Conv2d(8, 6, 1)), normalised(6)], 1),
        ([nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False), nn.Conv2d(6, 4, 1), normalised(4)], 2),
        ([nn.Conv2d(4, 6, 3), nn.ReLU(), normalised(6)], 0),
        ([nn.Conv2d(4, 6, 3), nn.ReLU(inplace=True), normalised(6), nn.Conv2d(6, 4, 3, padding=1), normalised(4)], 1),
        ([nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)], 0),
        ([normalised(4), nn.Conv2d(4, 4, 3, padding=1)], 0),
        ([Reused()], 0),
    ],
)
def test_only_what_directly_follows_a_convolution_of_its_own_is_folded(layers: list[nn.Module], count: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*layers).eval()
    images = torch.randn(3, 4, 11, 9)
    with torch.no_grad():
        graph, got, found = folded(model, images)
        torch.testing.assert_close(graph(images), model(images), rtol=1e-4, atol=1e-4)
    assert got == count
    assert found == sum("BatchNorm" in type(layer).__name__ for layer in model.modules())
