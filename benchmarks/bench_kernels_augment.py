"""A training batch of the full policy: the fused kernel beside the reference in plain torch."""

import itertools

import pytest
import torch
from measure import Measure, agree
from needs import need_backend, need_gpu
from record import Work

from fastcifar.augment import fused
from fastcifar.augment.draws import sample_draws
from fastcifar.augment.policy import AugmentPolicy
from fastcifar.augment.reference import apply_draws
from fastcifar.dataset.shapes10 import make_shapes10
from fastcifar_kernels.augment import BACKENDS

POLICY = AugmentPolicy()
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
STORED_BYTES = 3 * 32 * 32


def reference(images: torch.Tensor, indices: torch.Tensor, epoch: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    draws = sample_draws(POLICY, 0, epoch, indices)
    return apply_draws(images.index_select(0, indices), draws, POLICY, MEAN, STD, size, dtype)


def kernel(images: torch.Tensor, indices: torch.Tensor, epoch: int, size: int, dtype: torch.dtype) -> torch.Tensor:
    return fused.apply(images, indices, 0, epoch, POLICY, MEAN, STD, size, dtype)


dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
sizes = pytest.mark.parametrize("size", [16, 32])


@dtypes
@sizes
def bench_batch(measure: Measure, threads: int, size: int, dtype: torch.dtype) -> None:
    beside_reference(measure, f"cpu, {threads} threads", 512, size, dtype, "cpu")


@pytest.mark.gpu
@dtypes
@sizes
def bench_batch_on_gpu(measure: Measure, size: int, dtype: torch.dtype) -> None:
    need_gpu()
    beside_reference(measure, "cuda", 1024, size, dtype, "cuda")


def beside_reference(measure: Measure, where: str, batch: int, size: int, dtype: torch.dtype, device: str) -> None:
    need_backend(BACKENDS[device])
    images = torch.from_numpy(make_shapes10().train.images).to(device)
    batches = itertools.cycle(torch.arange(len(images), device=device).split(batch)[: len(images) // batch])
    epochs = itertools.count()
    makers = {"reference": reference, "fused": kernel}
    first = next(batches)
    results = {name: lambda make=make: make(images, first, 0, size, dtype) for name, make in makers.items()}
    measure(
        f"augment: {where}, {size} pixels, {str(dtype)[6:]}, batch {batch}",
        {
            name: lambda make=make: make(images, next(batches), next(epochs), size, dtype)
            for name, make in makers.items()
        },
        baseline="reference",
        check=agree(results, "reference", 1e-5 if dtype == torch.float32 else 5e-3),
        work=Work("images/s", batch, bytes_moved=batch * (STORED_BYTES + 3 * size**2 * dtype.itemsize)),
        device=device,
    )
