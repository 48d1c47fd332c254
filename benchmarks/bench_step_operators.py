"""What each of the CPU's fused operators makes of a whole training step: all of them, and without each."""

from contextlib import ExitStack
from unittest.mock import patch

import pytest
from measure import Measure, agree
from needs import need_backend
from torch import Tensor
from training_step import Step, losses, our_step, pair, step_work

from fastcifar_kernels import batch_norm_relu, depthwise, strided_convolution
from fastcifar_kernels.backend import Backend

BATCH = 256
OPERATORS = {"batch_norm_relu": batch_norm_relu, "depthwise": depthwise, "strided_convolution": strided_convolution}
ABSENT = Backend("", "cpu", "none", "measured without")
TOLERANCE = 1e-4
"""Of the losses of three steps."""


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("model_name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])
def bench_step(measure: Measure, model_name: str, size: int) -> None:
    need_backend(depthwise.BACKENDS["cpu"])

    def without(*names: str) -> Step:
        step = our_step(pair(model_name), size, BATCH)

        def run() -> Tensor:
            with ExitStack() as stack:
                for name in names:
                    stack.enter_context(patch.dict(OPERATORS[name].BACKENDS, {"cpu": ABSENT}))
                return step()

        return run

    subjects = {"torch's own": without(*OPERATORS)} | {f"all but {name}": without(name) for name in OPERATORS}
    subjects["all"] = without()
    measure(
        f"step's operators: cpu, {model_name}, {size} pixels, batch {BATCH}",
        subjects,
        baseline="torch's own",
        check=agree({name: losses(step) for name, step in subjects.items()}, "torch's own", TOLERANCE),
        work=step_work(pair(model_name), size, BATCH),
    )
