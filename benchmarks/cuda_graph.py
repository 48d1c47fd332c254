"""Work for a GPU without the host's part: calls captured in a CUDA graph."""

from collections.abc import Callable

import torch

WARM_UPS = 3


def captured(work: Callable[[], object], calls: int) -> Callable[[], None]:
    """So many calls of `work` as one; it must do the same whenever it is called.

    It is called on a stream of its own before, so that whatever it compiles, allocates or chooses is done.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            work()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(calls):
            work()
    return graph.replay
