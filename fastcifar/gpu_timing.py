"""How long work takes a GPU, the host's part left out."""

import math
import statistics
from collections.abc import Callable, Sequence

import torch

WARM_UPS, CALLS, ROUNDS = 3, 10, 15
"""Calls before any is captured, calls in a captured graph, and times that each graph is replayed."""
SLEEP_CYCLES = 200_000


def gpu_seconds(works: Sequence[Callable[[], object]]) -> list[float]:
    """Of a call of each, on the current GPU: the median over rounds in which all take turns, so that a clock that
    changes meets all of them. Infinity for one that does not compile, launch or fit the memory.

    Each is captured in a CUDA graph, and so must do the same whenever it is called.
    """
    graphs = [_captured_if_possible(work) for work in works]
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for graph, found in zip(graphs, seconds, strict=True):
            found.append(math.inf if graph is None else _replay_s(graph) / CALLS)
    return [statistics.median(found) for found in seconds]


def captured(work: Callable[[], object], calls: int) -> torch.cuda.CUDAGraph:
    """So many calls of `work` in a CUDA graph; it must do the same whenever it is called.

    It is called on a stream of its own before, so that whatever it compiles, allocates or chooses is done.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            work()
    stream.synchronize()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            work()
    return graph


def _captured_if_possible(work: Callable[[], object]) -> torch.cuda.CUDAGraph | None:
    from triton.errors import TritonError

    try:
        return captured(work, CALLS)
    except (RuntimeError, TritonError) as error:
        if isinstance(error, torch.AcceleratorError):
            raise  # after a fault nothing more runs in this process: not the work's failure alone
        return None


def _replay_s(graph: torch.cuda.CUDAGraph) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(SLEEP_CYCLES)  # the launch is over before the GPU gets to `start`
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3
