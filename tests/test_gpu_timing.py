"""Timing with CUDA graphs and events, against a stand-in GPU whose clock only the work moves."""

import math
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch

from fastcifar.gpu_timing import CALLS, ROUNDS, WARM_UPS, gpu_seconds

pytest.importorskip("triton", reason="triton is not installed")


class Gpu:
    """Work says how many milliseconds it takes; what a graph captures takes that time again when it is replayed."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.order: list[object] = []
        gpu = self

        class Graph:
            def __init__(self) -> None:
                self.work: list[Callable[[], None]] = []

            def replay(self) -> None:
                gpu.order.append(self)
                for work in self.work:
                    work()

        class Capture:
            def __init__(self, graph: Graph) -> None:
                self.graph = graph

            def __enter__(self) -> None:
                gpu.capturing = self.graph.work

            def __exit__(self, *_: object) -> None:
                gpu.capturing = None

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at_ms = gpu.now_ms

            def synchronize(self) -> None: ...

            def elapsed_time(self, end: "Event") -> float:
                return end.at_ms - self.at_ms

        class Stream:
            def wait_stream(self, other: "Stream") -> None: ...

            def synchronize(self) -> None: ...

        def sleep(cycles: int) -> None:
            self.now_ms += cycles

        self.capturing: list[Callable[[], None]] | None = None
        self.replacements = {
            "CUDAGraph": Graph,
            "graph": Capture,
            "Event": Event,
            "Stream": Stream,
            "current_stream": Stream,
            "stream": nullcontext,
            "_sleep": sleep,
        }

    def run(self, work: Callable[[], None]) -> None:
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)

    def takes(self, *milliseconds: float) -> Callable[[], None]:
        """Work that takes these times in turn, the last of them from then on."""
        left = list(milliseconds)

        def pass_time() -> None:
            self.now_ms += left.pop(0) if len(left) > 1 else left[0]

        return lambda: self.run(pass_time)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    found = Gpu()
    for name, replacement in found.replacements.items():
        monkeypatch.setattr(torch.cuda, name, replacement)
    return found


def test_the_time_of_one_call_without_the_warm_up_and_strays(gpu: Gpu) -> None:
    slow_start = gpu.takes(*[900.0] * WARM_UPS, 2.0)
    stray = gpu.takes(*[1.0] * (WARM_UPS + CALLS), 500.0, 1.0)
    assert gpu_seconds([slow_start, stray]) == pytest.approx([2e-3, 1e-3])


def test_they_take_turns(gpu: Gpu) -> None:
    gpu_seconds([gpu.takes(1.0), gpu.takes(2.0)])
    first, second = gpu.order[:2]
    assert first is not second
    assert gpu.order == [first, second] * ROUNDS


def test_what_does_not_run_is_passed_over_and_our_own_faults_are_not(gpu: Gpu) -> None:
    from triton.runtime.errors import OutOfResources

    def too_large() -> None:
        raise OutOfResources(300_000, 227_000, "shared memory")

    def refused() -> None:
        raise torch.OutOfMemoryError

    def mistaken() -> None:
        raise TypeError

    assert gpu_seconds([too_large, gpu.takes(3.0), refused]) == pytest.approx([math.inf, 3e-3, math.inf])

    def faulty() -> None:
        raise torch.AcceleratorError("an illegal memory access was encountered")

    for work, error in ((mistaken, TypeError), (faulty, torch.AcceleratorError)):
        with pytest.raises(error):
            gpu_seconds([work])
