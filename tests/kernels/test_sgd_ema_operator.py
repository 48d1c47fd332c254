"""The operator `sgd_ema` where the library serves: any place in memory, what is refused, and torch's own checks."""

import copy
from typing import Any

import pytest
import torch
from sgd_ema_cases import Settings, law, need
from torch import Tensor

from fastcifar_kernels.sgd_ema import sgd_ema


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return need(request.param)


def test_tensors_that_start_anywhere_in_memory(device):
    memory = torch.full((4 * 3000,), torch.nan, device=device)
    parameter, gradient, momentum, average = (memory[place : place + 2052] for place in range(1, 12000, 3000))
    tensors = parameter[0:2050], gradient[1:2051], momentum[2:2052], average[0:2050]
    generator = torch.Generator().manual_seed(0)
    for tensor in tensors:
        tensor.copy_(torch.randn(2050, generator=generator))
    untouched = memory.isnan()
    wanted = law([tensor.double() for tensor in tensors], Settings(0.1, 0.9, 0.01), 0.3, True)
    groups, share = torch.tensor([[0.1, 0.9, 0.01]], device=device), torch.tensor([0.3], device=device)
    sgd_ema(tensors[:1], tensors[1:2], tensors[2:3], tensors[3:], [], [], [0], groups, share, True)
    for found, expected in zip((tensors[0], tensors[2], tensors[3]), wanted, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(memory.isnan(), untouched)


def arguments(device: torch.device) -> dict[str, Any]:
    parameters = [torch.randn(3, 4, device=device), torch.randn(5, device=device)]
    return {
        "parameters": parameters,
        "gradients": [torch.randn_like(tensor) for tensor in parameters],
        "momenta": [torch.randn_like(tensor) for tensor in parameters],
        "averages": [torch.randn_like(parameters[0]), torch.empty(0, device=device)],
        "followed": [torch.randn(7, device=device), torch.tensor([3], device=device)],
        "followers": [torch.randn(7, device=device), torch.tensor([0], device=device)],
        "group_indices": [0, 1],
        "groups": torch.tensor([[0.1, 0.9, 0.01], [0.2, 0.9, 0.0]], device=device),
        "share": torch.tensor([0.1], device=device),
        "nesterov": True,
    }


def with_changed(given: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return {**given, name: value}


@pytest.mark.parametrize(
    ("name", "value", "error", "said"),
    [
        ("parameters", [torch.randn(3, 4).double(), torch.randn(5)], ValueError, "parameters: float32"),
        ("parameters", [torch.randn(3, 8)[:, ::2], torch.randn(5)], ValueError, "without gaps"),
        ("parameters", [torch.randn(3, 1).expand(3, 4), torch.randn(5)], ValueError, "without gaps"),
        ("parameters", [torch.randn(3, 4)], ValueError, "one for each parameter"),
        ("gradients", [torch.randn(3, 4).half(), torch.randn(5)], ValueError, "gradients: float32"),
        ("gradients", [torch.randn(4, 3), torch.randn(5)], ValueError, "gradients: with their"),
        ("gradients", [torch.randn(3, 4)], ValueError, "one for each parameter"),
        ("momenta", [torch.randn(4, 3).t(), torch.randn(5)], ValueError, "momenta: with their"),
        ("momenta", [torch.randn(3, 4), torch.randn(4)], ValueError, "momenta: with their"),
        ("averages", [torch.randn(4, 3).t(), torch.randn(5)], ValueError, "averages: with their"),
        ("followed", [torch.randn(7)], ValueError, "one for each followed"),
        ("followed", [torch.randn(6), torch.tensor([3])], ValueError, "of one layout"),
        ("followed", [torch.randn(7).int(), torch.tensor([3])], ValueError, "float32 or int64"),
        ("followers", [torch.randn(7), torch.zeros(1)], ValueError, "followers: int64"),
        ("group_indices", [0, 2], IndexError, "outside the groups"),
        ("group_indices", [-1, 0], IndexError, "outside the groups"),
        ("groups", torch.zeros(2, 2), ValueError, r"\[G, 3\]"),
        ("groups", torch.zeros(0, 3), ValueError, "at least 1"),
        ("groups", torch.zeros(3, 2).t(), ValueError, "contiguous"),
        ("share", torch.zeros(2), ValueError, "one float32"),
        ("share", torch.zeros(1).double(), ValueError, "share: float32"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(device, name, value, error, said):
    given = arguments(device)
    before = copy.deepcopy(given)
    moved = value
    if isinstance(value, torch.Tensor):
        moved = value.to(device)
    elif name != "group_indices":
        moved = [one.to(device) for one in value]
    with pytest.raises(error, match=said):
        sgd_ema(**with_changed(given, name, moved))
    for key in ("parameters", "momenta", "averages", "followers"):
        assert all(torch.equal(one, other) for one, other in zip(given[key], before[key], strict=True))


@pytest.mark.gpu
def test_tensors_of_two_devices_are_refused():
    given = arguments(need("cuda"))
    for name in ("groups", "share"):
        with pytest.raises(ValueError, match="device"):
            sgd_ema(**with_changed(given, name, given[name].cpu()))
    with pytest.raises(ValueError, match="device"):
        sgd_ema(**with_changed(given, "momenta", [one.cpu() for one in given["momenta"]]))


def test_torch_checks_the_operator(device):
    results = torch.library.opcheck(torch.ops.fastcifar_kernels.sgd_ema.default, tuple(arguments(device).values()))
    assert set(results.values()) == {"SUCCESS"}


def test_the_operator_survives_compilation_in_one_graph(device):
    def train(given: dict[str, Any]) -> Tensor:
        given["gradients"] = [2 * gradient for gradient in given["gradients"]]
        sgd_ema(**given)
        return given["parameters"][0].sum() + given["followers"][0].sum()

    torch.manual_seed(0)
    given = arguments(device)
    compiled, eager = copy.deepcopy(given), copy.deepcopy(given)
    torch.testing.assert_close(torch.compile(train, fullgraph=True)(compiled), train(eager))
    for key in ("parameters", "momenta", "averages", "followers"):
        for one, other in zip(compiled[key], eager[key], strict=True):
            torch.testing.assert_close(one, other)
        assert not torch.equal(compiled[key][0], given[key][0])
