"""The optimizer over `sgd_ema` where the library serves: against torch.optim.SGD with a loop of lerps, and float64."""

import copy

import pytest
import torch
from sgd_ema_cases import Settings, law, need, parameters_of, set_gradients
from torch import Tensor, nn

from fastcifar_kernels.sgd_ema.optimizer import SGDEMA


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return need(request.param)


def in_groups(parameters: list[nn.Parameter]) -> list[dict]:
    several = [parameter for parameter in parameters if parameter.dim() > 1]
    return [
        {"params": several, "weight_decay": 5e-4, "lr_scale": 1.0},
        {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "lr_scale": 16.0},
    ]


def torch_sgd(parameters: list[nn.Parameter], nesterov: bool = True) -> torch.optim.SGD:
    return torch.optim.SGD(in_groups(parameters), lr=0.1, momentum=0.9, nesterov=nesterov)


def our_sgd(parameters: list[nn.Parameter], averages: list[tuple[Tensor, Tensor]], nesterov: bool = True) -> SGDEMA:
    return SGDEMA(in_groups(parameters), lr=0.1, momentum=0.9, nesterov=nesterov, averages=averages)


def set_rates(optimizer: torch.optim.Optimizer, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = 1e-3 * (1 + step % 7) * group["lr_scale"]


def share_of(step: int) -> float:
    """As of a decay that warms up: from 0.82 down to 0.02."""
    return 1 - min(0.98, (2 + step) / (11 + step))


def gradients_of(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


class Pair:
    """The same training by torch.optim.SGD with a loop of lerps, and by SGDEMA."""

    def __init__(self, device: torch.device, nesterov: bool = True) -> None:
        self.theirs, self.ours = parameters_of(device), parameters_of(device)
        self.their_average = [parameter.detach().clone() for parameter in self.theirs]
        self.our_average = [parameter.detach().clone() for parameter in self.ours]
        self.reference = torch_sgd(self.theirs, nesterov)
        self.optimizer = our_sgd(self.ours, list(zip(self.ours, self.our_average, strict=True)), nesterov)

    def steps(self, steps: range) -> None:
        for step in steps:
            for parameters, optimizer in ((self.theirs, self.reference), (self.ours, self.optimizer)):
                set_gradients(parameters, step)
                set_rates(optimizer, step)
            self.reference.step()
            with torch.no_grad():
                for average, parameter in zip(self.their_average, self.theirs, strict=False):
                    average.lerp_(parameter, share_of(step))
            self.optimizer.share = share_of(step)
            self.optimizer.step()

    def check(self) -> None:
        lists = (self.theirs, self.ours), (self.their_average, self.our_average), (self.momenta(0), self.momenta(1))
        for theirs, ours in lists:
            for one, other in zip(theirs, ours, strict=True):
                torch.testing.assert_close(other, one, rtol=1e-5, atol=2e-6)

    def momenta(self, which: int) -> list[Tensor]:
        optimizer, parameters = [(self.reference, self.theirs), (self.optimizer, self.ours)][which]
        return [optimizer.state[parameter]["momentum_buffer"] for parameter in parameters]


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_hundred_steps_equal_torchs_sgd_and_a_loop_of_lerps(device, nesterov):
    pair = Pair(device, nesterov)
    pair.steps(range(100))
    pair.check()


@pytest.mark.parametrize("fault", ["rate", "share", "gradient", "momentum", "decay", "average"])
def test_a_planted_fault_is_noticed(device, fault):
    pair = Pair(device)
    if fault == "decay":
        pair.optimizer.param_groups[0]["weight_decay"] = 6e-4
    if fault == "momentum":
        pair.optimizer.param_groups[1]["momentum"] = 0.901
    if fault == "share":
        pair.their_average[2] *= 1.1
    if fault == "rate":
        pair.optimizer.register_step_pre_hook(lambda *_: pair.optimizer.param_groups[1].update(lr=1.001e-2))
    if fault == "gradient":
        pair.optimizer.register_step_pre_hook(lambda *_: set_gradients(pair.ours[1:2], 99))
    if fault == "average":
        pair.our_average[5][1000] += 1
    pair.steps(range(5))
    with pytest.raises(AssertionError):
        pair.check()


def test_one_step_equals_float64(device):
    parameters = parameters_of(device, seed=3)
    averages = [torch.randn_like(parameter) for parameter in parameters]
    optimizer = SGDEMA(parameters, lr=0.3, momentum=0.8, weight_decay=0.01, nesterov=True, share=0.25)
    optimizer._averages = tuple(zip(parameters, averages, strict=True))
    expected = []
    set_gradients(parameters, 0)
    for parameter, average, gradient in zip(parameters, averages, gradients_of(parameters), strict=True):
        momentum = torch.randn_like(parameter, requires_grad=False)
        optimizer.state[parameter]["momentum_buffer"] = momentum
        wide = [tensor.detach().double() for tensor in (parameter, gradient, momentum, average)]
        expected.append(law(wide, Settings(0.3, 0.8, 0.01), 0.25, True))
    optimizer.step()
    for parameter, average, wanted in zip(parameters, averages, expected, strict=True):
        found = parameter.detach(), optimizer.state[parameter]["momentum_buffer"], average
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-6, atol=1e-6)


def test_either_loads_the_others_state(device):
    pair = Pair(device)
    pair.steps(range(10))
    theirs, ours = copy.deepcopy(pair.reference.state_dict()), copy.deepcopy(pair.optimizer.state_dict())
    assert {key: set(state) for key, state in ours["state"].items()} == {
        key: set(state) for key, state in theirs["state"].items()
    }
    assert [set(group) for group in ours["param_groups"]] == [set(group) for group in theirs["param_groups"]]
    pair.reference.load_state_dict(ours)
    pair.optimizer.load_state_dict(theirs)
    pair.steps(range(10, 20))
    pair.check()


def test_a_state_from_before_the_first_step_and_one_of_another_layout(device):
    pair = Pair(device)
    pair.optimizer.load_state_dict(pair.reference.state_dict())  # no momentum yet
    pair.steps(range(3))
    state = copy.deepcopy(pair.reference.state_dict())
    for one in state["state"].values():
        one["momentum_buffer"] = one["momentum_buffer"].contiguous()  # the parameter may be channels_last
    pair.optimizer.load_state_dict(state)
    pair.steps(range(3, 6))
    pair.check()
    for parameter in pair.ours:
        assert pair.optimizer.state[parameter]["momentum_buffer"].stride() == parameter.stride()


def test_schedulers_write_rates_and_momentum(device):
    pair = Pair(device)
    schedulers = [
        torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.01, 0.1], total_steps=12)
        for optimizer in (pair.reference, pair.optimizer)
    ]
    for step in range(10):
        set_gradients(pair.theirs, step)
        set_gradients(pair.ours, step)
        for optimizer, scheduler in zip((pair.reference, pair.optimizer), schedulers, strict=True):
            optimizer.step()
            scheduler.step()
    pair.their_average = pair.our_average  # share is 0: they stand
    pair.check()


def test_a_group_may_join_on_the_way(device):
    pair = Pair(device)
    pair.steps(range(2))
    for parameters, optimizer in ((pair.theirs, pair.reference), (pair.ours, pair.optimizer)):
        parameters.append(nn.Parameter(torch.linspace(-1, 1, 33, device=device)))
        optimizer.add_param_group({"params": parameters[-1:], "weight_decay": 0.1, "lr_scale": 2.0})
    pair.steps(range(2, 6))
    pair.check()


def test_gradients_of_any_layout_and_none(device):
    pair = Pair(device)
    for step in range(4):
        set_gradients(pair.theirs, step)
        set_gradients(pair.ours, step, lambda gradient: gradient.contiguous())
        odd = torch.randn(5, 7, device=device).t()
        for parameters in (pair.theirs, pair.ours):
            parameters[2].grad = odd
            parameters[3].grad = None
        pair.reference.step()
        pair.optimizer.step()
    assert "momentum_buffer" not in pair.reference.state[pair.theirs[3]]
    assert not pair.optimizer.state[pair.ours[3]]["momentum_buffer"].any()
    assert torch.equal(pair.ours[3], pair.theirs[3])
    pair.reference.state[pair.theirs[3]]["momentum_buffer"] = torch.zeros(1023, device=device)
    pair.their_average = pair.our_average
    pair.check()


def test_what_is_no_parameter_follows_or_is_copied(device):
    statistic = torch.randn(77, device=device)
    counter = torch.tensor(2**53 + 1, device=device)
    frozen = torch.randn(5, 3, 3, 3, device=device).to(memory_format=torch.channels_last)
    sources = statistic, counter, frozen
    averages = [torch.zeros_like(source) for source in sources]
    parameter = nn.Parameter(torch.randn(3, device=device))
    optimizer = SGDEMA([parameter], averages=zip(sources, averages, strict=True), share=0.25)
    before = [source.clone() for source in sources]
    optimizer.step()
    torch.testing.assert_close(averages[0], 0.25 * statistic)
    assert averages[1].item() == 2**53 + 1
    torch.testing.assert_close(averages[2], 0.25 * frozen)
    assert all(torch.equal(one, other) for one, other in zip(before, sources, strict=True))
    assert parameter.grad is None


def test_many_tensors_of_many_groups(device):
    """More rows than one launch takes on a GPU."""
    sizes = [1 + 37 * i % 1500 for i in range(900)]
    theirs, ours = ([nn.Parameter(torch.ones(size, device=device)) for size in sizes] for _ in range(2))
    both = []
    for parameters, kind in ((theirs, torch.optim.SGD), (ours, SGDEMA)):
        set_gradients(parameters, 0)
        groups = [{"params": [parameter], "lr": 0.01 * (i % 10)} for i, parameter in enumerate(parameters)]
        both.append(kind(groups, momentum=0.5))
    for optimizer in both:
        optimizer.step()
        optimizer.step()
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)


def test_threads_change_nothing():
    need("cpu")
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            pair = Pair(torch.device("cpu"))
            pair.steps(range(3))
            results.append([*pair.ours, *pair.our_average])
    finally:
        torch.set_num_threads(threads)
    for one, *others in zip(*results, strict=True):
        assert all(torch.equal(one, other) for other in others)


def test_autograd_refuses_what_a_step_has_overwritten(device):
    parameter = nn.Parameter(torch.randn(4, device=device))
    loss = (parameter * parameter.square()).sum()
    parameter.grad = torch.ones_like(parameter)
    SGDEMA([parameter], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_scaler_unscales_and_skips(device):
    parameter = nn.Parameter(torch.ones(4, device=device))
    optimizer = SGDEMA([parameter], lr=0.5)
    scaler = torch.amp.GradScaler(device.type, init_scale=1024.0)
    scaler.scale(parameter.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(parameter.detach(), torch.full((4,), 0.5, device=device))
    optimizer.zero_grad()
    scaler.scale(parameter.sum() * torch.inf).backward()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(parameter.detach(), torch.full((4,), 0.5, device=device))
    assert scaler.get_scale() == 512.0


@pytest.mark.parametrize("change", [{"dampening": 0.1}, {"maximize": True}, {"nesterov": False}])
def test_groups_of_another_law_are_refused(device, change):
    optimizer = our_sgd(parameters_of(device), [])
    optimizer.param_groups[1].update(change)
    with pytest.raises(ValueError, match="dampening"):
        optimizer.step()


@pytest.mark.gpu
def test_a_captured_step_reads_rates_and_share_at_each_replay():
    device = need("cuda")
    pair = Pair(device)
    set_gradients(pair.ours, 0)
    pair.optimizer.write_settings()
    graph, held = torch.cuda.CUDAGraph(), gradients_of(pair.ours)
    before = [parameter.detach().clone() for parameter in pair.ours]
    with torch.cuda.graph(graph):
        pair.optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(before, pair.ours, strict=True))
    for step in range(8):
        set_gradients(pair.theirs, step)
        for place, gradient in zip(held, gradients_of(pair.theirs), strict=True):
            place.copy_(gradient)
        set_rates(pair.reference, step)
        set_rates(pair.optimizer, step)
        pair.reference.step()
        with torch.no_grad():
            for average, parameter in zip(pair.their_average, pair.theirs, strict=True):
                average.lerp_(parameter, share_of(step))
        pair.optimizer.share = share_of(step)
        pair.optimizer.write_settings()
        graph.replay()
    pair.check()


@pytest.mark.gpu
def test_the_first_step_is_not_captured_unprepared():
    parameters = parameters_of(need("cuda"))
    set_gradients(parameters, 0)
    optimizer = SGDEMA(parameters, lr=0.1)
    with pytest.raises(RuntimeError, match="write_settings"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()
