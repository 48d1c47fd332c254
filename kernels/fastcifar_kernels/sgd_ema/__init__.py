"""A step of SGD with Nesterov momentum and weight decay, and of the moving average behind it, over all tensors at once.

For each element of a parameter with a gradient, in float32 (torch.optim.SGD's law, dampening 0):

    slope     = gradient + weight decay * parameter
    momentum  = factor * momentum + slope                          zero before the first step
    parameter = parameter - learning rate * (slope + factor * momentum), or with `momentum` alone without Nesterov
    average   = average + share * (parameter - average)            torch.lerp's, with the parameter's new value

The operator takes lists, which say truly what it changes, and turns them into a table of pointers in C++: on a GPU the
table travels by value with the kernel's arguments, so that nothing is uploaded and a captured graph keeps it.
Learning rates, momentum factors, weight decays and the share are read from the device when the kernel runs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fastcifar_kernels import backend

_LIBRARY = torch.library.Library(backend.NAMESPACE, "FRAGMENT")
_LIBRARY.define(
    "sgd_ema(Tensor(a!)[] parameters, Tensor[] gradients, Tensor(b!)[] momenta, Tensor(c!)[] averages, "
    "Tensor[] followed, Tensor(d!)[] followers, int[] group_indices, Tensor groups, Tensor share, bool nesterov) -> ()",
    tags=(torch.Tag.pt2_compliant_tag,),
)
BACKENDS = backend.choose("sgd_ema", triton=False)
_OPERATOR = torch.ops.fastcifar_kernels.sgd_ema.default


def sgd_ema(
    parameters: Sequence[Tensor],
    gradients: Sequence[Tensor],
    momenta: Sequence[Tensor],
    averages: Sequence[Tensor],
    followed: Sequence[Tensor],
    followers: Sequence[Tensor],
    group_indices: Sequence[int],
    groups: Tensor,
    share: Tensor,
    nesterov: bool,
) -> None:
    """Change `parameters`, `momenta`, `averages` and `followers` in place; all tensors on one device.

    parameters: float32 without gaps, in any order of dimensions. gradients: of the same sizes; empty where there is
        none, and then parameter and momentum stay. momenta: of the same sizes and strides. averages: likewise, or
        empty where the parameter has none.
    followed: float32, whose averages are `followers`; or int64, which the followers take over.
    group_indices: the row of `groups` of each parameter.
    groups: float32 [G, 3], G at least 1: learning rate, momentum factor, weight decay. share: float32 [1], of the new
        values in the averages: 1 - decay.

    Raises:
        ValueError: a tensor other than said here.
        IndexError: an index outside the groups.
        NotImplementedError: no backend serves the device (see `BACKENDS`).
    """
    _OPERATOR(parameters, gradients, momenta, averages, followed, followers, group_indices, groups, share, nesterov)


@torch.library.register_fake(f"{backend.NAMESPACE}::sgd_ema", lib=_LIBRARY)
def _fake(*arguments: object) -> None:
    """Nothing is returned."""
