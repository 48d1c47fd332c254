"""Muon for the convolutions that mix channels, SGD for everything else, as one optimizer.

Muon: K. Jordan et al., 2024, kellerjordan.github.io/posts/muon; here as airbench94_muon has it for CIFAR-10.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from fastcifar_kernels.sgd_ema.optimizer import SGDEMA

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration: they raise small singular values fast and leave large ones between 0.7 and 1.2."""
ITERATIONS = 3
MOMENTUM = 0.6


def mixes_channels(parameter: nn.Parameter) -> bool:
    """Whether it is the kernel of a convolution over several input channels, dense or 1x1: a matrix, in effect."""
    return parameter.ndim == 4 and parameter.shape[1] > 1


def orthogonalised(matrix: Tensor) -> Tensor:
    """Nearly U V^T for the matrix U S V^T [rows, columns]: Newton-Schulz iterations on matrix / its Frobenius norm."""
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    if tall := len(x) > x.shape[1]:
        x = x.T
    for _ in range(ITERATIONS):
        square = x @ x.T
        polynomial = torch.addmm(square, square, square, beta=b, alpha=c)
        x = torch.addmm(x, polynomial, x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, on kernels held at the Frobenius norm sqrt(output channels).

    Args:
        params: kernels [out, in, height, width], each taken as a matrix [out, in height width].
        lr: a step's length, on the scale of kernels whose rows have length 1.
    """

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})
        self._given: Tensor | None = None

    def settings_row(self) -> list[float]:
        """The groups' learning rates."""
        return [float(group["lr"]) for group in self.param_groups]

    def read_settings_from(self, settings: Tensor | None) -> None:
        """Let every step read this tensor, float32 like `settings_row`, in place of the groups; None: them.

        All that a step changes exists from here on, until a state is loaded.
        """
        self._given = settings
        for group in self.param_groups:
            for parameter in group["params"]:
                self._momentum(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every kernel that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        rates = self.settings_row() if self._given is None else self._given.unbind()
        for group, rate in zip(self.param_groups, rates, strict=True):
            self._move([kernel for kernel in group["params"] if kernel.grad is not None], rate)
        return loss

    def _move(self, kernels: list[Tensor], lr: float | Tensor) -> None:
        if not kernels:
            return
        gradients = [cast(Tensor, kernel.grad) for kernel in kernels]
        momenta = [self._momentum(kernel) for kernel in kernels]
        torch._foreach_mul_(momenta, MOMENTUM)
        torch._foreach_add_(momenta, gradients)
        ahead = torch._foreach_add(gradients, momenta, alpha=MOMENTUM)
        directions = [_orthogonalised_kernel(kernel) for kernel in ahead]
        torch._foreach_div_(kernels, torch._foreach_norm(kernels))
        torch._foreach_mul_(kernels, [len(kernel) ** 0.5 for kernel in kernels])
        torch._foreach_mul_(directions, lr)
        torch._foreach_sub_(kernels, directions)

    def _momentum(self, kernel: Tensor) -> Tensor:
        state = self.state[kernel]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(kernel, requires_grad=False)
        return state["momentum_buffer"]


def _orthogonalised_kernel(kernel: Tensor) -> Tensor:
    """Of [out, in, height, width] as a matrix, its columns in their order in memory: any order gives the same."""
    pixels = kernel.permute(0, 2, 3, 1)
    return orthogonalised(pixels.reshape(len(kernel), -1)).view(pixels.shape).permute(0, 3, 1, 2)


class MuonAndSGD:
    """Two optimizers over disjoint parameters, with the interface of one.

    Args:
        sgd: steps last, so that an `SGDEMA` moves the averages of what Muon has just updated too.
    """

    def __init__(self, muon: Muon, sgd: torch.optim.Optimizer) -> None:
        self.muon, self.sgd = muon, sgd

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [*self.muon.param_groups, *self.sgd.param_groups]

    def settings_row(self) -> list[float]:
        """What both parts read at a step; the second must be an `SGDEMA`."""
        return [*self.muon.settings_row(), *self._sgd_ema.settings_row()]

    def read_settings_from(self, settings: Tensor | None) -> None:
        """See both parts."""
        own = len(self.muon.param_groups)
        self.muon.read_settings_from(None if settings is None else settings[:own])
        self._sgd_ema.read_settings_from(None if settings is None else settings[own:])

    @property
    def _sgd_ema(self) -> SGDEMA:
        assert isinstance(self.sgd, SGDEMA), "torch's own takes its learning rate from the host"
        return self.sgd

    def step(self) -> None:
        self.muon.step()
        self.sgd.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.muon.zero_grad(set_to_none)
        self.sgd.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "sgd": self.sgd.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.muon.load_state_dict(state["muon"])
        self.sgd.load_state_dict(state["sgd"])


def averaging_part(optimizer: "torch.optim.Optimizer | MuonAndSGD") -> SGDEMA | None:
    """The part that moves the weight average in its own launch, if it is there."""
    part = optimizer.sgd if isinstance(optimizer, MuonAndSGD) else optimizer
    return part if isinstance(part, SGDEMA) else None
