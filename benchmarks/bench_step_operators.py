"""What each of the CPU's fused operators makes of a whole training step; all of them, and without each, in turn."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import pytest
from in_turn import in_turn, threads_of, training_step

from fastcifar_kernels import batch_norm_relu, depthwise, strided_convolution
from fastcifar_kernels.backend import Backend

BATCH = 256
OPERATORS = {"batch_norm_relu": batch_norm_relu, "depthwise": depthwise, "strided_convolution": strided_convolution}
ABSENT = Backend("", "cpu", "none", "measured without")


@pytest.fixture(params=[1, None], ids=["1 thread", "all threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    yield from threads_of(request.param, depthwise.BACKENDS["cpu"])


@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("model_name", ["c1c2c3c40-speed", "c1c2c3c40-accuracy"])
def bench_step(benchmark: Any, threads: int, model_name: str, size: int) -> None:
    benchmark.group = f"step, {threads} threads: {model_name}, {size} pixels, batch {BATCH}"
    step = training_step(model_name, size, BATCH)

    def without(*names: str) -> Callable[[], None]:
        def run() -> None:
            with ExitStack() as stack:
                for name in names:
                    stack.enter_context(patch.dict(OPERATORS[name].BACKENDS, {"cpu": ABSENT}))
                step()

        return run

    subjects = {"torch's own": without(*OPERATORS)} | {f"all but {name}": without(name) for name in OPERATORS}
    in_turn(benchmark, {**subjects, "all": step}, repeats=1)
