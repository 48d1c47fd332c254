"""SGDEMA where it takes its settings from a tensor on the device, as a captured step needs it."""

import pytest
import torch
from graph_stand_in import record
from sgd_ema_cases import need, set_gradients
from test_sgd_ema_optimizer import Pair, device, gradients_of, set_rates, share_of  # noqa: F401 (a fixture)
from torch import Tensor

ROW = 7
"""Settings of the pair's two groups, and the share."""


def settings_of(pair: Pair, steps: range) -> Tensor:
    rows = []
    for step in steps:
        set_rates(pair.optimizer, step)
        pair.optimizer.share = share_of(step)
        rows.append(pair.optimizer.settings_row())
    return torch.tensor(rows, device=pair.ours[0].device)


def test_settings_from_the_device_equal_those_of_the_host_to_the_bit(device: torch.device) -> None:  # noqa: F811
    host, ours = Pair(device), Pair(device)
    rows, row = settings_of(ours, range(6)), torch.zeros(ROW, device=device)
    assert rows.shape == (6, ROW)
    ours.optimizer.read_settings_from(row)
    for step in range(6):
        if step == 4:
            ours.optimizer.read_settings_from(None)  # the host's again
        for pair in (host, ours):
            set_gradients(pair.ours, step)
        set_rates(host.optimizer, step)
        host.optimizer.share = share_of(step)
        if step < 4:
            row.copy_(rows[step])
        else:
            set_rates(ours.optimizer, step)
            ours.optimizer.share = share_of(step)
        for pair in (host, ours):
            pair.optimizer.step()
        for one, other in zip([*host.ours, *host.our_average], [*ours.ours, *ours.our_average], strict=True):
            assert torch.equal(one, other)


def test_recorded_steps_follow_the_tensor_and_not_the_groups() -> None:
    cpu = need("cpu")
    pair, expected = Pair(cpu), Pair(cpu)
    rows, row = settings_of(pair, range(5)), torch.zeros(ROW)
    pair.optimizer.read_settings_from(row)
    set_gradients(pair.ours, 0)
    held = gradients_of(pair.ours)
    replay = record(pair.optimizer.step)  # with a row of zeros: nothing moves but the momenta
    for parameter in pair.ours:
        pair.optimizer.state[parameter]["momentum_buffer"].zero_()
    for step in range(5):
        set_gradients(expected.ours, step)
        for place, gradient in zip(held, gradients_of(expected.ours), strict=True):
            place.copy_(gradient)
        set_rates(expected.optimizer, step)
        expected.optimizer.share = share_of(step)
        expected.optimizer.step()
        row.copy_(rows[step])
        replay()
        for one, other in zip([*pair.ours, *pair.our_average], [*expected.ours, *expected.our_average], strict=True):
            assert torch.equal(one, other)


@pytest.mark.gpu
def test_a_captured_step_finds_its_row_by_itself() -> None:
    gpu = need("cuda")
    pair, expected = Pair(gpu), Pair(gpu)
    rows, row, number = settings_of(pair, range(5)), torch.zeros(ROW, device=gpu), torch.zeros(1, device=gpu).long()
    pair.optimizer.read_settings_from(row)
    set_gradients(pair.ours, 0)
    held, graph = gradients_of(pair.ours), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        row.copy_(rows.index_select(0, number)[0])
        pair.optimizer.step()
        number.add_(1)
    for step in range(5):
        set_gradients(expected.ours, step)
        for place, gradient in zip(held, gradients_of(expected.ours), strict=True):
            place.copy_(gradient)
        set_rates(expected.optimizer, step)
        expected.optimizer.share = share_of(step)
        expected.optimizer.step()
        graph.replay()
        for one, other in zip([*pair.ours, *pair.our_average], [*expected.ours, *expected.our_average], strict=True):
            assert torch.equal(one, other)
