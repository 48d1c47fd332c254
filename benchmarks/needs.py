"""What a benchmark cannot do without; it is skipped with the reason where that is not there."""

import pytest
import torch

from fastcifar_kernels.backend import Backend


def need_gpu() -> None:
    """A CUDA device."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def need_backend(backend: Backend) -> None:
    """The fused operator on a type of device."""
    if backend.used == "none":
        pytest.skip(backend.reason)
