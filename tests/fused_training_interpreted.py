"""Run with TRITON_INTERPRET=1: the operator by its Triton kernels on the CPU, checked and trained with.

Usage: fused_training_interpreted.py FILE, which gets the losses of the steps; see test_fused_model.py.
"""

import sys
from typing import Any

import torch
from test_fused_model import trained

from fastcifar_kernels import backend
from fastcifar_kernels.depthwise_pointwise import launch, plan
from fastcifar_kernels.depthwise_pointwise.shape import Shape, default_tiling


def forward(x: torch.Tensor, depthwise: torch.Tensor, pointwise: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
    calls["forward"] += 1
    return launch.forward(default_tiling(Shape.of(x, pointwise, *rest[2:4])), x, depthwise, pointwise, *rest)


def backward(*arguments: Any) -> tuple[torch.Tensor, ...]:
    calls["backward"] += 1
    x, pointwise, (stride, dilation) = arguments[4], arguments[6], arguments[9:]
    return launch.backward(default_tiling(Shape.of(x, pointwise, stride, dilation)), *arguments)


if __name__ == "__main__":
    calls = {"forward": 0, "backward": 0}
    library = torch.library.Library(backend.NAMESPACE, "IMPL")
    library.impl("depthwise_pointwise", forward, "CPU", allow_override=True)
    library.impl("depthwise_pointwise_backward", backward, "CPU", allow_override=True)
    plan.refusal = lambda shape, dtype, device: ""
    plan.Machine.of = staticmethod(lambda device: plan.Machine(1.0, float("inf"), 1))
    plan.CLEAR_GAIN = 0.0
    tensors = torch.randn(2, 6, 4, 5), torch.randn(6, 1, 3, 3), torch.randn(5, 6, 1, 1), torch.randn(6), torch.randn(6)
    call = [tensor.clone().requires_grad_() for tensor in tensors]
    torch.library.opcheck(torch.ops.fastcifar_kernels.depthwise_pointwise.default, (*call, 1, 1, True))
    y, vector = torch.randn(2, 5, 4, 5), torch.randn(5)
    around = (y, y, vector, vector)
    torch.library.opcheck(torch.ops.fastcifar_kernels.depthwise_pointwise_backward.default, (*around, *tensors, 1, 1))
    calls = {"forward": 0, "backward": 0}
    losses = trained(0, compiled=True, steps=12, batch=16)
    assert calls == {"forward": 24, "backward": 24}
    torch.save(losses, sys.argv[1])
