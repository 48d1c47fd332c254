"""What the device can do at most, measured in the same session: bytes copied and multiply-adds a second.

The floor of a subject's time is the longer of its bytes at that bandwidth and its operations at that peak (the roofline
of Williams, Waterman and Patterson, 2009). Maps that stay in a cache can be faster than the memory they were copied to.
"""

import time
from dataclasses import dataclass

import torch

from fastcifar.runtime import synchronize

ROUNDS = 7
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}
"""Of a buffer: far more than any cache holds."""
SIDE = {"cpu": 2048, "cuda": 8192}
DTYPE = {"cpu": torch.float32, "cuda": torch.bfloat16}
"""Of the matrix product: what the networks compute in there."""


@dataclass(frozen=True)
class Ceilings:
    """Of one device, on so many CPU threads.

    Attributes:
        bytes_per_s: read and written by a large copy.
        flops_per_s: of a large matrix product, a multiply-add being two.
        dtype: of that product.
    """

    device: str
    threads: int
    bytes_per_s: float
    flops_per_s: float
    dtype: str

    def floor_s(self, bytes_moved: float, flops: float) -> tuple[float, str]:
        """The least seconds for so much work, and what bounds it: "bytes" or "operations"."""
        by_bytes, by_operations = bytes_moved / self.bytes_per_s, flops / self.flops_per_s
        return (by_bytes, "bytes") if by_bytes >= by_operations else (by_operations, "operations")


def measure_ceilings(device: str) -> Ceilings:
    """The best of a few rounds, since a ceiling is what can be had at all; on as many threads as torch is set to."""
    source = torch.ones(
        COPY_BYTES[device] // 4, device=device
    )  # zeros would be one page of memory, read again and again
    target = torch.empty_like(source)
    left, right = (torch.randn(SIDE[device], SIDE[device], device=device).to(DTYPE[device]) for _ in range(2))
    product = torch.empty_like(left)
    copies, products = [], []
    for _ in range(ROUNDS):
        copies.append(_seconds(lambda: target.copy_(source), device))
        products.append(_seconds(lambda: torch.mm(left, right, out=product), device))
    return Ceilings(
        device=device,
        threads=torch.get_num_threads(),
        bytes_per_s=2 * source.nbytes / min(copies),
        flops_per_s=2 * SIDE[device] ** 3 / min(products),
        dtype=str(DTYPE[device]).removeprefix("torch."),
    )


def _seconds(work, device: str) -> float:
    synchronize(torch.device(device))
    start = time.perf_counter()
    work()
    synchronize(torch.device(device))
    return time.perf_counter() - start
