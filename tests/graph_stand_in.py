"""A CUDA graph's stand-in on the CPU: it records the operators that are called, and repeats those calls, nothing else.

As in a graph, whatever Python computes is decided at the capture: only what tensors hold may differ at a replay.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """Every operator that was called under it, with its arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("the host waits for a tensor's value")
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.inference_mode()  # the evaluation's results are inference tensors, which nothing else may write to
    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def record(work: Callable[[], object]) -> Callable[[], object]:
    """A `Capture`: one rehearsal, then the call that is recorded."""
    work()
    tape = Tape()
    with tape:
        work()
    return tape.replay
