"""The compiled libraries, and which backend serves which operator on which device, and why."""

import ctypes
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import torch

import fastcifar_kernels

NAMESPACE = "fastcifar_kernels"
"""Of the operators: `torch.ops.fastcifar_kernels.<operator>`."""


@dataclass(frozen=True)
class Backend:
    """What serves an operator on one type of device.

    Attributes:
        operator: its name in `torch.ops.fastcifar_kernels`.
        device: "cpu" or "cuda".
        used: "c++", "cuda c++", "triton"; "torch": plain torch, because it is the best there is; or "none": plain
            torch, in fastcifar itself, because something is missing.
        reason: why that one.
    """

    operator: str
    device: str
    used: str
    reason: str

    @property
    def title(self) -> str:
        """What serves, for a person to read."""
        return "plain torch" if self.used in ("torch", "none") else self.used


@functools.cache
def load_library(device: str) -> str:
    """Load the library of "cpu" or "cuda" kernels, once; "" where that worked, else why it did not."""
    name = f"fastcifar_kernels_{device}"
    folders = [Path(folder) for folder in fastcifar_kernels.__path__]  # two, where the installation is editable
    found = next((folder / f"{name}.so" for folder in folders if (folder / f"{name}.so").exists()), None)
    if found is None:
        said = [(folder / f"{name}.txt").read_text().strip() for folder in folders if (folder / f"{name}.txt").exists()]
        return said[0] if said else "the package was not built, only copied"
    if device == "cuda" and torch.version.cuda is None:
        return "this torch is built without CUDA"
    try:
        library = ctypes.CDLL(str(found))  # torch.ops.load_library does the same, but hides the linker's reason
    except OSError as error:
        return f"{found.name} does not load: {error}"
    if device == "cuda" and not library.fastcifar_kernels_cuda_usable():
        return "the NVIDIA driver is older than the CUDA that built the library"
    return ""


def choose(operator: str, *, triton: bool, cuda: str = "") -> dict[str, Backend]:
    """The backend of each device for an operator; loads what is there.

    triton: whether the operator has a Triton kernel, which serves CUDA tensors where the library cannot.
    cuda: why the operator leaves CUDA tensors to torch; "" where it is in both libraries.
    """
    missing = load_library("cpu")
    cpu = Backend(operator, "cpu", "none", missing) if missing else Backend(operator, "cpu", "c++", "the library loads")
    if cuda:
        return {"cpu": cpu, "cuda": Backend(operator, "cuda", "torch", cuda)}
    missing = load_library("cuda")
    if not missing:
        gpu = Backend(operator, "cuda", "cuda c++", "the library loads")
    elif triton and not triton_missing():
        gpu = Backend(operator, "cuda", "triton", missing)
    else:
        gpu = Backend(operator, "cuda", "none", missing)
    return {"cpu": cpu, "cuda": gpu}


def triton_missing() -> str:
    """Why Triton cannot serve CUDA tensors; empty where it can."""
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    return "" if importlib.util.find_spec("triton") is not None else "triton is not installed"


def triton_only(operator: str, on_cpu: str) -> dict[str, Backend]:
    """The backend of each device for an operator written in Triton; on_cpu: why torch itself serves CPUs."""
    missing = triton_missing()
    cuda = Backend(operator, "cuda", "none" if missing else "triton", missing or "triton is installed")
    return {"cpu": Backend(operator, "cpu", "torch", on_cpu), "cuda": cuda}


def backends() -> list[Backend]:
    """What serves every operator here."""
    from fastcifar_kernels import (
        augment,
        batch_norm_relu,
        depthwise,
        depthwise_pointwise,
        sgd_ema,
        strided_convolution,
    )

    operators = (augment, batch_norm_relu, depthwise, depthwise_pointwise, sgd_ema, strided_convolution)
    return [backend for operator in operators for backend in operator.BACKENDS.values()]
