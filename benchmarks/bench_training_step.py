"""The whole training step beside a tuned plain PyTorch script's: eager, in bf16 autocast, and compiled.

The CPU's figures stand behind the choices in `fastcifar/runtime.py`.
"""

import pytest
import torch
from measure import Measure, agree
from needs import need_gpu
from record import Work
from training_step import Step, losses, our_step, plain_step, step_flops

from fastcifar.runtime import cpu_has_bf16

PLAIN = "plain PyTorch, tuned"
TOLERANCE = {"fp32": 1e-4, "bf16": 3e-2}
"""Of the losses of three steps."""

sizes = pytest.mark.parametrize("size", [16, 32])
models = pytest.mark.parametrize("model_name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])


@sizes
@models
def bench_training_step(measure: Measure, model_name: str, size: int) -> None:
    case = model_name, size, 256
    subjects = {PLAIN: plain_step(*case), "fp32": our_step(*case), "fp32 compiled": our_step(*case, compiled=True)}
    left_out = {}
    if cpu_has_bf16():
        subjects["bf16 autocast"] = our_step(*case, dtype=torch.bfloat16)
    else:
        left_out["bf16 autocast"] = "this CPU has no bf16 arithmetic"
    beside_plain(measure, *case, "cpu", subjects, left_out)


@pytest.mark.gpu
@sizes
@models
def bench_training_step_on_gpu(measure: Measure, model_name: str, size: int) -> None:
    need_gpu()
    case, narrow = (model_name, size, 1024, "cuda"), torch.bfloat16
    subjects = {
        PLAIN: plain_step(*case),
        "bf16": our_step(*case, dtype=narrow),
        "bf16 compiled": our_step(*case, dtype=narrow, compiled=True),
    }
    beside_plain(measure, *case, subjects, {})


def beside_plain(
    measure: Measure,
    model_name: str,
    size: int,
    batch: int,
    device: str,
    subjects: dict[str, Step],
    left_out: dict[str, str],
) -> None:
    def check() -> None:
        found = {name: losses(step)() for name, step in subjects.items()}
        for name, own in found.items():
            pair = {PLAIN: lambda: found[PLAIN], name: lambda own=own: own}
            agree(pair, PLAIN, TOLERANCE["bf16" if "bf16" in name else "fp32"])()

    measure(
        f"step: {device}, {model_name}, {size} pixels, batch {batch}",
        subjects,
        baseline=PLAIN,
        check=check,
        work=Work("images/s", batch, flops=batch * step_flops(model_name, size)),
        device=device,
        left_out=left_out,
    )
