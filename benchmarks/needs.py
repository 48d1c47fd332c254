"""What a benchmark cannot do without; it is skipped with the reason where that is not there."""

import pytest
import torch

from fastcifar.augment.requirements import require_dali
from fastcifar.errors import DeviceError
from fastcifar_kernels.backend import Backend


def need_gpu() -> None:
    """A CUDA device."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def need_backend(backend: Backend) -> None:
    """The fused operator on a type of device."""
    if backend.used == "none":
        pytest.skip(backend.reason)


def need_dali() -> None:
    """NVIDIA DALI."""
    try:
        require_dali()
    except DeviceError as error:
        pytest.skip(str(error))
