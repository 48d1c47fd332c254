"""The three kernels of `depthwise_pointwise`, compiled without a GPU for every shape of the networks.

An element is a number of the depthwise result (of x, in the depthwise backward kernel).
"""

import dataclasses
import importlib.util
from functools import partial
from importlib.metadata import version
from typing import Any

import pytest
import torch
from compiled_triton import Machine, compile_kernel
from torch import nn

from fastcifar.model.layers import DepthwiseSeparable
from fastcifar.model.registry import MODELS, build_model
from fastcifar_kernels.depthwise_pointwise.launch import OUTPUTS_AT_A_TIME
from fastcifar_kernels.depthwise_pointwise.plan import BACKWARD_INSTRUCTIONS, FORWARD_INSTRUCTIONS, INPUT_INSTRUCTIONS
from fastcifar_kernels.depthwise_pointwise.shape import Shape, Tiles, default_tiling, power_of_two

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton")

POINTERS = ("x", "y", "gradient", "z_gradient", "x_gradient")
VECTORS = ("depthwise", "pointwise", "scale", "shift", "partials", "intercept", "slope")
TYPES = dict.fromkeys(POINTERS, "*bf16") | dict.fromkeys(VECTORS, "*fp32") | {"images": "i32"}
ARCHITECTURES = (80, 90)
TUNED_FOR = "3.8.0"
"""The Triton for which the default tiles spill nothing; another's assembler counts registers differently."""


def shapes_of_networks() -> list[Shape]:
    """What the depthwise-separable layers of all networks meet at 32 pixels, each once."""
    found: set[Shape] = set()

    def note(layer: DepthwiseSeparable, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        images, channels, height, width = arguments[0].shape
        outputs = layer.pointwise.out_channels
        found.add(Shape(images, height, width, channels, outputs, layer.stride, layer.dilation))

    for name in MODELS:
        model = build_model(name).eval()
        for layer in model.modules():
            if isinstance(layer, DepthwiseSeparable):
                layer.depthwise.register_forward_pre_hook(partial(note, layer))
        model(torch.zeros(1, 3, 32, 32))
    return sorted(found, key=dataclasses.astuple)


SHAPES = shapes_of_networks()
CASES = [pytest.param(shape, False, id=shape.key) for shape in SHAPES]
# The one layer that takes over the batch-norm before it.
CASES += [
    pytest.param(shape, True, id=f"{shape.key} normalised")
    for shape in SHAPES
    if (shape.channels, shape.stride) == (96, 2)
]


def compiled(kernel: str, shape: Shape, normalise: bool, architecture: int, tiles: Tiles | None = None) -> Machine:
    from fastcifar_kernels.depthwise_pointwise import triton_backward, triton_forward

    tiles = tiles or getattr(default_tiling(shape), kernel)
    assert tiles is not None
    constants: dict[str, Any] = {"HEIGHT": shape.height, "WIDTH": shape.width, "CHANNELS": shape.channels}
    constants |= {"STRIDE": shape.stride, "DILATION": shape.dilation, "NORMALISE": normalise, "STATISTICS": True}
    constants |= {"ROWS": tiles.rows, "COLUMNS": tiles.columns, "POSITIONS": tiles.cells, "CELLS": tiles.cells}
    constants |= {"BLOCK": tiles.block, "OUTPUTS": shape.outputs, "OUTPUT_BLOCK": output_block(kernel, shape)}
    constants |= {} if normalise else {"scale": None, "shift": None}
    found = triton_forward if kernel == "forward" else triton_backward
    function = getattr(found, f"{kernel}_kernel")
    options = {"num_warps": tiles.warps, "num_stages": 1, "maxnreg": tiles.registers}
    return compile_kernel(function, TYPES, constants, architecture, **options)


def output_block(kernel: str, shape: Shape) -> int:
    block = max(16, power_of_two(shape.outputs))
    return min(OUTPUTS_AT_A_TIME, block) if kernel == "forward" else block


def per_element(count: int, tiles: Tiles) -> float:
    """Of `count` instructions in a thread's pass over a tile."""
    return count * 32 * tiles.warps / (tiles.cells * tiles.rows * tiles.columns * tiles.block)


def loads(shape: Shape, rows: int) -> float:
    """Pixels under the taps of a strip of `rows` outputs, for each of them."""
    under = {r * shape.stride + i * shape.dilation for r in range(rows) for i in range(3)}
    return 3 * len(under) / rows


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("shape", "normalise"), CASES)
@pytest.mark.parametrize("kernel", ["forward", "pointwise_backward", "depthwise_backward"])
def test_machine_code(kernel, shape, normalise, architecture):
    tiles = getattr(default_tiling(shape), kernel)
    found = compiled(kernel, shape, normalise, architecture)
    slack = 0.0 if version("triton") == TUNED_FOR else 0.05
    assert found.stack == 0 or slack
    assert found.loop["STL"] + found.loop["LDL"] <= slack * found.loop.total()
    assert found.instructions["STL"] + found.instructions["LDL"] <= slack * found.instructions.total()
    assert found.shared <= 64 * 1024

    multiply_adds = per_element(found.loop["FFMA"], tiles)
    total = per_element(found.loop.total(), tiles)
    if kernel == "depthwise_backward":
        # Nine for the gradient of x and nine for the weights', or a quarter of them; two for scale and shift.
        ninths = {(1, 1): 1, (1, 2): 1, (2, 1): 1 / 4}[shape.stride, shape.dilation]
        assert multiply_adds == 18 * ninths + 2 * normalise
        assert total <= (INPUT_INSTRUCTIONS[shape.stride] + 8 * normalise + 6 * (shape.dilation == 2)) * (1 + slack)
        return
    # Nine taps, the normalisation of what is loaded, and one for each output's square or its gradient's mean.
    block = output_block(kernel, shape)
    behind = block / (tiles.rows * tiles.block) if kernel == "forward" else block / tiles.block
    # With few outputs the product's layout on Ampere has each of them twice; the taps must never be.
    repeats = (1, 2) if architecture == 80 else (1,)
    assert (multiply_adds - 9 - normalise * loads(shape, tiles.rows)) / behind in repeats
    assert found.instructions.keys() & ({"HMMA"} if architecture == 80 else {"HMMA", "HGMMA"})
    budget = FORWARD_INSTRUCTIONS if kernel == "forward" else BACKWARD_INSTRUCTIONS
    budget += 12 * (shape.channels % tiles.block != 0)  # smaller tiles, for lanes beyond the channels
    assert total <= (budget + normalise * 4 * loads(shape, tiles.rows)) * (1 + slack)


def test_the_gate_sees_repeated_work(monkeypatch):
    """Without the empty instruction of `rounded`, warps on Ampere compute the taps of others, too."""
    from fastcifar_kernels.depthwise_pointwise import triton_forward, triton_tile

    shape = Shape(1, 16, 16, 64, 128, 2, 1)
    tiles = default_tiling(shape).forward
    assert per_element(compiled("forward", shape, False, 80).loop["FFMA"], tiles) == 10
    monkeypatch.setattr(triton_forward, "rounded", triton_tile.cast)
    monkeypatch.setattr(triton_forward.forward_kernel, "hash", None)
    assert per_element(compiled("forward", shape, False, 80).loop["FFMA"], tiles) > 18
