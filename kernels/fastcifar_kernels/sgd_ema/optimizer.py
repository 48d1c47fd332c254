"""torch.optim.SGD through the operator `sgd_ema`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastcifar_kernels.sgd_ema import sgd_ema

SETTINGS = ("lr", "momentum", "weight_decay")
"""Columns of the operator's `groups`, by their keys in a parameter group."""


@dataclass
class _Lists:
    """The operator's arguments but for the gradients, kept from step to step."""

    parameters: list[Tensor]
    momenta: list[Tensor]
    averages: list[Tensor]
    followed: list[Tensor]
    followers: list[Tensor]
    group_indices: list[int]
    settings: Tensor  # what `groups` and `share` are views of
    host: np.ndarray  # its values on the host: on the CPU the same memory
    groups: Tensor
    share: Tensor
    absent: Tensor  # stands for a gradient or an average that there is not


class SGDEMA(torch.optim.SGD):
    """torch.optim.SGD and an exponential moving average in one launch a step, float32 on one device.

    Groups, state dict and learning-rate schedulers are torch.optim.SGD's, and either loads the other's state. A zero
    momentum buffer stands where torch.optim.SGD has none yet. The averages are no part of the state.

    To replay a step from a CUDA graph, call `write_settings` before the capture and before every replay; or let the
    graph fill a tensor that `read_settings_from` was given.

    Args:
        averages: pairs (tensor, its average), the average changed in place. The tensor may be a parameter, follow the
            forward pass (batch-norm statistics), or be int64, and then its "average" is a copy.
        share: of the new values in the averages, 1 - decay; an attribute, to be set before a step that changes it.

    Raises:
        ValueError: in `step`, for dampening, maximize, Nesterov momentum in some groups only, or a tensor that the
            operator refuses.
    """

    share = 0.0
    _averages: tuple[tuple[Tensor, Tensor], ...] = ()
    _lists: _Lists | None = None
    _given: Tensor | None = None

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        averages: Iterable[tuple[Tensor, Tensor]] = (),
        share: float = 0.0,
    ) -> None:
        # fused: so that torch.optim.SGD goes on fused from this state.
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, fused=True)
        self._step_supports_amp_scaling = False  # a GradScaler unscales the gradients itself
        self._averages = tuple(averages)
        self.share = share

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._lists = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        self._lists = None

    def settings_row(self) -> list[float]:
        """What a step reads, as it lies on the device: each group's lr, momentum and weight decay, then `share`."""
        return [*(float(group[key]) for group in self.param_groups for key in SETTINGS), self.share]

    def read_settings_from(self, settings: Tensor | None) -> None:
        """Let every step read this tensor, float32 like `settings_row`, in place of the groups and `share`; None: them.

        All that a step changes exists from here on, until a state is loaded.
        """
        self._given = settings
        self._lists = self._gather()

    def write_settings(self) -> _Lists:
        """Bring the groups' learning rates, momentum factors and weight decays, and `share`, to the device.

        `step` does so, except while it is being captured in a CUDA graph, or reads a given tensor.
        """
        if self._lists is None:
            self._lists = self._gather()
        lists = self._lists
        lists.host[:] = self.settings_row()
        if lists.settings.is_cuda:
            # From pageable memory: what is copied has left it when the call returns, without a wait for the device.
            lists.settings.copy_(torch.from_numpy(lists.host), non_blocking=True)
        return lists

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update parameters with a gradient, then every average.

        Raises:
            RuntimeError: a CUDA graph captures the first step, whose buffers it would clear again and again.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        capturing = self.param_groups[0]["params"][0].is_cuda and torch.cuda.is_current_stream_capturing()
        if capturing and self._lists is None:
            raise RuntimeError("call write_settings before a CUDA graph captures the first step")
        if not capturing and self._given is None:
            self.write_settings()
        lists = self._lists = self._lists or self._gather()
        sgd_ema(
            lists.parameters,
            [lists.absent if parameter.grad is None else parameter.grad for parameter in lists.parameters],
            lists.momenta,
            lists.averages,
            lists.followed,
            lists.followers,
            lists.group_indices,
            lists.groups,
            lists.share,
            self.param_groups[0]["nesterov"],
        )
        # So that autograd refuses a backward pass through what a step has overwritten, as it does after torch's.
        torch.autograd.graph.increment_version(lists.parameters)
        return loss

    def _gather(self) -> _Lists:
        for group in self.param_groups:
            if group["dampening"] or group["maximize"] or group["nesterov"] != self.param_groups[0]["nesterov"]:
                raise ValueError("SGDEMA: without dampening and maximize, nesterov in all groups or none")
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for parameter in parameters:
            self.state[parameter]["momentum_buffer"] = _in_layout_of(
                parameter, self.state[parameter].get("momentum_buffer")
            )
        device = parameters[0].device
        absent = torch.empty(0, device=device)
        average_of = {id(tensor): average for tensor, average in self._averages}
        own = {id(parameter) for parameter in parameters}
        others = [(tensor, average) for tensor, average in self._averages if id(tensor) not in own]
        host = torch.empty(len(self.param_groups) * len(SETTINGS) + 1)
        settings = host.to(device) if self._given is None else self._given
        return _Lists(
            parameters=parameters,
            momenta=[self.state[parameter]["momentum_buffer"] for parameter in parameters],
            averages=[average_of.get(id(parameter), absent) for parameter in parameters],
            followed=[tensor for tensor, _ in others],
            followers=[average for _, average in others],
            group_indices=[index for index, group in enumerate(self.param_groups) for _ in group["params"]],
            settings=settings,
            host=host.numpy(),
            groups=settings[:-1].view(-1, len(SETTINGS)),
            share=settings[-1:],
            absent=absent,
        )


def _in_layout_of(parameter: Tensor, momentum: Tensor | None) -> Tensor:
    """The momentum buffer with the parameter's strides, zero where there was none."""
    if momentum is None:
        return torch.zeros_like(parameter, memory_format=torch.preserve_format, requires_grad=False)
    if momentum.stride() == parameter.stride():
        return momentum
    return torch.empty_like(parameter, requires_grad=False).copy_(momentum)
