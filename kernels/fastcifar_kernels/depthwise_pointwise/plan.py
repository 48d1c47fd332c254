"""Fused or plain: which of the two serves a call, with which tiles, and why.

Measured plans come first: `load` reads a table that was timed on this very GPU. Without one a model decides. It takes
the longer of the time to move the bytes and the time to issue the instructions, plus the start of each kernel, forward
and backward with the batch-norm behind it, and asks for a clear gain; its constants are those of kernels/README.md.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from fastcifar_kernels import backend
from fastcifar_kernels.depthwise_pointwise.shape import Shape, Tiles, Tiling, default_tiling

MOST_OUTPUTS = 256
"""The backward kernel keeps a whole row of outputs on the chip."""
CLEAR_GAIN = 1.2
"""What the model must promise, since it has never met the GPU."""
LAUNCH_S = 2e-6
FORWARD_INSTRUCTIONS, BACKWARD_INSTRUCTIONS = 48, 64
"""Of a thread, to an element of the depthwise result, without the prologue; the tests hold the kernels to them."""
INPUT_INSTRUCTIONS = {1: 42, 2: 14}
"""Of the depthwise backward kernel, to an element of x, by stride."""


@dataclass(frozen=True)
class Plan:
    """What serves one shape.

    Attributes:
        fused: the operator's kernels rather than two convolutions.
        reason: why, in a clause.
        tiling: the kernels' tiles.
    """

    fused: bool
    reason: str
    tiling: Tiling


@dataclass(frozen=True)
class Machine:
    """A GPU as the model sees it: bytes/s from and to memory, instructions/s of all its threads together."""

    bandwidth: float
    issue_rate: float
    multiprocessors: int

    @staticmethod
    def of(device: torch.device) -> "Machine":
        found = torch.cuda.get_device_properties(device)
        bandwidth = 2 * found.memory_clock_rate * 1e3 * found.memory_bus_width / 8  # two transfers a clock
        lanes = 32 * 4 * found.multi_processor_count  # four schedulers, a warp each
        return Machine(0.85 * bandwidth, lanes * found.clock_rate * 1e3, found.multi_processor_count)


_MEASURED: dict[str, Plan] = {}
"""By the shape's and the type's name; of the GPU of this process."""


def load(file: Path, gpu: str) -> int:
    """Take over the plans of `file` that were measured on `gpu` with this torch and Triton; how many.

    A file that is not there has none.

    Raises:
        ValueError: the file is not such a table.
    """
    _MEASURED.clear()
    if not file.exists():
        return 0
    try:
        table = json.loads(file.read_text())
        if table["gpu"] != gpu:
            return 0
        for key, entry in table["plans"].items():
            if any(entry[name] != found for name, found in _versions().items()):
                continue
            tiling = Tiling(**{name: Tiles(**tiles) for name, tiles in entry["tiling"].items()})
            _MEASURED[key] = _measured(tiling, entry["fused_us"], entry["plain_us"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _MEASURED.clear()
        raise ValueError(f"{file}: no table of plans ({error!r})") from error
    return len(_MEASURED)


def _measured(tiling: Tiling, fused_us: float | None, plain_us: float) -> Plan:
    if fused_us is None:
        return Plan(False, "measured: the fused kernels do not run on this GPU", tiling)
    return Plan(fused_us < plain_us, f"measured: {fused_us:.0f} us fused, {plain_us:.0f} us plain", tiling)


def entry(tiling: Tiling, fused_us: float, plain_us: float) -> dict[str, object]:
    """A line of the table that `load` reads; fused_us is infinite where the kernels did not run."""
    return {
        "fused_us": fused_us if math.isfinite(fused_us) else None,
        "plain_us": plain_us,
        "tiling": asdict(tiling),
        **_versions(),
    }


def _versions() -> dict[str, str]:
    """Of what makes the kernels and their rivals."""
    return {name: version(name) if find_spec(name) else "none" for name in ("torch", "triton")}


@contextmanager
def on_trial(shape: Shape, dtype: torch.dtype, tiling: Tiling) -> Iterator[None]:
    """Within it the kernels serve this shape, with these tiles, whatever has been measured before."""
    name = key(shape, dtype)
    before = _MEASURED.get(name)
    _MEASURED[name] = Plan(True, "on trial", tiling)
    try:
        yield
    finally:
        del _MEASURED[name]
        if before is not None:
            _MEASURED[name] = before


def key(shape: Shape, dtype: torch.dtype) -> str:
    """The name of a line of the table."""
    return f"{shape.key} {str(dtype).removeprefix('torch.')}"


def refusal(shape: Shape, dtype: torch.dtype, device: torch.device) -> str:
    """Why the kernels are not for a call in which x has this shape, type and device; "" where they are."""
    if device.type != "cuda":
        return "on a CPU two convolutions serve"
    if missing := backend.triton_missing():
        return missing
    if shape.outputs > MOST_OUTPUTS:
        return f"more than {MOST_OUTPUTS} outputs do not fit the chip"
    if dtype not in (torch.bfloat16, torch.float16):
        return "only bfloat16 and float16 use the tensor cores in full"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "the kernels are made for Ampere and later"
    return ""


def choose(shape: Shape, dtype: torch.dtype, device: torch.device) -> Plan:
    """The plan for a call in which x has this shape, type and device."""
    tiling = default_tiling(shape)
    if reason := refusal(shape, dtype, device):
        return Plan(False, reason, tiling)
    if measured := _MEASURED.get(key(shape, dtype)):
        return measured
    fused, plain = modelled_s(shape, Machine.of(device))
    reason = f"modelled, not measured: {fused * 1e6:.0f} us fused, {plain * 1e6:.0f} us plain"
    return Plan(fused * CLEAR_GAIN < plain, reason, tiling)


def fuses(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> bool:
    """`choose(Shape(*sizes), dtype, device).fused`; a compiled model decides once for each of its shapes."""
    return choose(Shape(*sizes), dtype, device).fused


# What torch.compiler.assume_constant_result does, less its import of torch._dynamo, for which all who compile nothing
# would wait for seconds.
fuses._dynamo_marked_constant = True


def tiling(x: Tensor, pointwise: Tensor, stride: int, dilation: int) -> Tiling | None:
    """The tiles of a call that is already made: for the plain convolutions too, if the kernels take it at all."""
    shape = Shape.of(x, pointwise, stride, dilation)
    if x.dtype == torch.float64 or shape.outputs > MOST_OUTPUTS:
        return None
    if torch.cuda.get_device_capability(x.device) < (8, 0):
        return None
    measured = _MEASURED.get(key(shape, x.dtype))
    return measured.tiling if measured else default_tiling(shape)


def modelled_s(shape: Shape, machine: Machine) -> tuple[float, float]:
    """Seconds of a training step's share, forward and backward with batch-norm's statistics: fused, and plain.

    In numbers of x, z and y that each kernel moves, as kernels/README.md counts them. Plain is what the best
    convolutions could do, every kernel at the memory's full speed.
    """
    inputs = shape.images * shape.height * shape.width * shape.channels
    places = shape.images * shape.out_height * shape.out_width
    between, outputs = places * shape.channels, places * shape.outputs
    partial_sums = 4 * machine.multiprocessors * shape.channels * shape.outputs  # written and read, twice as wide

    def seconds(numbers: int, instructions: float = 0.0) -> float:
        return max(2 * numbers / machine.bandwidth, instructions / machine.issue_rate) + LAUNCH_S

    fused = (
        seconds(inputs + outputs, FORWARD_INSTRUCTIONS * between)
        + seconds(2 * outputs)  # batch-norm and ReLU
        + seconds(3 * outputs)  # their gradients
        + seconds(inputs + 2 * outputs + between + partial_sums, BACKWARD_INSTRUCTIONS * between)
        + seconds(between + 2 * inputs, INPUT_INSTRUCTIONS[shape.stride] * inputs)
        + 5 * LAUNCH_S  # the weights' layout, twice; statistics and weight gradients from their partial sums
    )
    plain = (
        seconds(inputs + between)
        + seconds(between + outputs)
        + seconds(outputs)  # batch-norm's sums
        + seconds(2 * outputs)
        + seconds(2 * outputs)  # those of its gradients
        + seconds(3 * outputs)
        + 2 * seconds(outputs + between)
        + 2 * seconds(between + inputs)
    )
    return fused, plain
