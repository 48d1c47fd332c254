"""The whole training step beside a tuned plain PyTorch script's: eager, in bf16 autocast, compiled, as a CUDA graph.

The CPU's figures stand behind the choices in `fastcifar/runtime.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from measure import Measure, agree
from needs import need_gpu
from training_step import Step, losses, our_step, pair, plain_step, step_work

from fastcifar.runtime import cpu_has_bf16
from fastcifar.training.captured import CudaGraphs

PLAIN = "plain PyTorch, tuned"
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2}
"""Of the losses of three steps."""

sizes = pytest.mark.parametrize("size", [16, 32])
models = pytest.mark.parametrize("model_name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])


@pytest.fixture(autouse=True)
def _nothing_compiled() -> None:
    """torch compiles one function for a few kinds of network only, and calls the others eagerly."""
    torch.compiler.reset()


@sizes
@models
def bench_training_step(measure: Measure, model_name: str, size: int) -> None:
    case = pair(model_name), size, 256
    subjects = {PLAIN: plain_step(*case), "fp32": our_step(*case)}
    left_out = {}
    if size < 32:
        left_out["fp32 compiled"] = "measured at 32 pixels only: compiling takes long"
    else:
        subjects["fp32 compiled"] = our_step(*case, compiled=True)
    if cpu_has_bf16():
        subjects["bf16 autocast"] = our_step(*case, dtype=torch.bfloat16)
    else:
        left_out["bf16 autocast"] = "this CPU has no bf16 arithmetic"
    group = f"step: cpu, {model_name}, {size} pixels, batch 256"
    measure(
        group,
        subjects,
        baseline=PLAIN,
        check=same_losses(subjects),
        work=step_work(*case),
        left_out=left_out,
    )


@pytest.mark.gpu
@sizes
@models
def bench_training_step_on_gpu(measure: Measure, model_name: str, size: int) -> None:
    need_gpu()
    case = pair(model_name), size, 1024
    place: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
    subjects = {
        PLAIN: plain_step(*case, device="cuda"),
        "bf16": our_step(*case, **place),
        "bf16 graph": our_step(*case, **place, capture=CudaGraphs()),
        "bf16 compiled": our_step(*case, **place, compiled=True),
        "bf16 compiled, no fused block": our_step(*case, **place, compiled=True, plain_network=True),
        "bf16 compiled graph": our_step(*case, **place, compiled=True, capture=CudaGraphs()),
    }
    measure(
        f"step: cuda, {model_name}, {size} pixels, batch 1024",
        subjects,
        baseline=PLAIN,
        check=same_losses(subjects),
        work=step_work(*case, torch.bfloat16),
        device="cuda",
    )


def same_losses(subjects: dict[str, Step]) -> Callable[[], None]:
    """A check that all train as the plain script does, each within its arithmetic's tolerance."""

    def check() -> None:
        found = {name: losses(step)() for name, step in subjects.items()}
        for name, own in found.items():
            both = {PLAIN: lambda: found[PLAIN], name: lambda own=own: own}
            agree(both, PLAIN, TOLERANCE["bf16" if "bf16" in name else "fp32"])()

    return check
