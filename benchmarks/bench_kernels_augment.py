"""A training batch of the full policy: the fused kernel beside the reference, on one thread and on all."""

from typing import Any

import pytest
import torch

from fastcifar.augment import fused
from fastcifar.augment.draws import sample_draws
from fastcifar.augment.policy import AugmentPolicy
from fastcifar.augment.reference import apply_draws
from fastcifar.dataset.shapes10 import make_shapes10

POLICY = AugmentPolicy()
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def reference(images: torch.Tensor, indices: torch.Tensor, epoch: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    draws = sample_draws(POLICY, 0, epoch, indices)
    return apply_draws(images.index_select(0, indices), draws, POLICY, MEAN, STD, size, dtype)


def kernel(images: torch.Tensor, indices: torch.Tensor, epoch: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    return fused.apply(images, indices, 0, epoch, POLICY, MEAN, STD, size, dtype)


@pytest.mark.parametrize("subject", ["reference", "fused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize("threads", [1, None], ids=["1 thread", "all threads"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def bench_batch(benchmark: Any, device: str, threads: int | None, size: int, dtype: torch.dtype, subject: str) -> None:
    if device == "cuda" and (threads or not torch.cuda.is_available()):
        pytest.skip("the threads are the CPU's" if threads else "no CUDA device")
    make = {"fused": kernel, "reference": reference}[subject]
    if subject == "fused" and not fused.serves(torch.device(device)):
        pytest.skip("no fused kernel serves this device")
    batch = 1024 if device == "cuda" else 512
    images = torch.from_numpy(make_shapes10().train.images).to(device)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).to(device)
    batches = order.split(batch)[: len(order) // batch]
    benchmark.group = f"augment: {device}, {threads or 'all'} threads, {size} pixels, {str(dtype)[6:]}, batch {batch}"
    benchmark.extra_info["images"] = batch * len(batches)
    epochs = iter(range(10_000))

    def epoch() -> None:
        number = next(epochs)
        for indices in batches:
            make(images, indices, number, size, dtype)
        if device == "cuda":
            torch.cuda.synchronize()

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        benchmark.pedantic(epoch, rounds=10, warmup_rounds=2)
    finally:
        torch.set_num_threads(before)
