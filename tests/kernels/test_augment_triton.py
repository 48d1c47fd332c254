"""`augment` in Triton: in its interpreter against float64, and compiled without a GPU, with gates on the result."""

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from augment_cases import EVERYTHING, POLICIES, assert_pixels, expected_pixels
from explicit_augmentation import MEAN, STD, noise

from fastcifar.augment.draws import AugmentDraws, sample_draws
from fastcifar.augment.normalisation import normalisation_constants
from fastcifar.augment.policy import IDENTITY, AugmentPolicy, dropout_fill
from fastcifar.augment.reference import apply_draws

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no triton"),
]

IMAGES = noise(12, seed=9)
SIZES = {"reflect": 32, "black": 17, "by axis": 9, "by axis, black": 24, "wild": 16, "wild, black": 11}
NARROW = {torch.float16: 4e-3, torch.bfloat16: 3.2e-2}
"""Tolerances of values up to 4: the interpreter cuts to bfloat16, where the kernel on a GPU rounds."""


def arguments(policy: AugmentPolicy, indices: torch.Tensor, size: int, dtype: torch.dtype = torch.float32) -> tuple:
    borders = policy.affine_law == "albumentations-2", policy.border == "reflect-101"
    moves = policy.flip, policy.affine, policy.rotate_degrees, policy.shift, policy.scale, *borders
    means, deviations = normalisation_constants(MEAN, STD)
    colours = list(dropout_fill(MEAN)), list(means), list(deviations)
    rest = policy.dropout, policy.dropout_size, policy.gray, *colours
    return (IMAGES, indices, -7, torch.tensor(3), *moves, *rest, size, dtype, True)  # -7: the seed 2**64 - 7


def cases() -> dict[str, tuple]:
    found = {name: arguments(policy, torch.tensor([3, 11, 0, 5]), SIZES[name]) for name, policy in POLICIES.items()}
    found["rest"] = arguments(IDENTITY, torch.tensor([7, 2]), 32)
    found["one image"] = arguments(EVERYTHING, torch.tensor([4]), 31)
    found["none"] = arguments(EVERYTHING, torch.tensor([], dtype=torch.int64), 31)
    found["outside"] = arguments(EVERYTHING, torch.tensor([1, -1, 12, 2]), 8)
    found |= {str(dtype): arguments(EVERYTHING, torch.arange(5), 13, dtype) for dtype in NARROW}
    return found


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Results of all cases, in a process of its own: the interpreter replaces Triton's functions for good."""
    file = tmp_path_factory.mktemp("triton") / "cases.pt"
    torch.save(cases(), file)
    script = Path(__file__).with_name("triton_interpreted.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, str(script), str(file)], check=True, env=environment, capture_output=True)
    return torch.load(file)


@pytest.mark.parametrize("name", POLICIES)
def test_pixels_and_draws(interpreted, name):
    pixels, draws = interpreted[name]
    indices, policy = torch.tensor([3, 11, 0, 5]), POLICIES[name]
    assert_pixels(pixels, expected_pixels(IMAGES, indices, policy, 2**64 - 7, 3, SIZES[name]))
    expected = sample_draws(policy, 2**64 - 7, 3, indices)
    columns = [getattr(expected, field.name).float() for field in dataclasses.fields(AugmentDraws)]
    assert torch.equal(draws, torch.stack(columns, dim=1))


def test_images_at_rest_equal_the_reference_to_the_bit(interpreted):
    assert torch.equal(interpreted["rest"][0], apply_draws(IMAGES[[7, 2]], None, IDENTITY, MEAN, STD))


def test_batches_of_one_and_none(interpreted):
    pixels, _ = interpreted["one image"]
    assert_pixels(pixels, expected_pixels(IMAGES, torch.tensor([4]), EVERYTHING, 2**64 - 7, 3, 31))
    assert pixels.stride() == (3 * 31 * 31, 1, 3 * 31, 3)
    assert interpreted["none"][0].shape == (0, 3, 31, 31)
    assert interpreted["none"][1].shape == (0, 11)


def test_an_index_outside_the_images_gives_nan(interpreted):
    pixels, _ = interpreted["outside"]
    assert bool(pixels[1:3].isnan().all())
    assert not bool(pixels[::3].isnan().any())


@pytest.mark.parametrize("dtype", NARROW)
def test_narrow_types(interpreted, dtype):
    pixels, _ = interpreted[str(dtype)]
    assert pixels.dtype == dtype
    assert_pixels(pixels, expected_pixels(IMAGES, torch.arange(5), EVERYTHING, 2**64 - 7, 3, 13), NARROW[dtype])


COMPILE = """
import json, os, subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from fastcifar_kernels.augment.triton_kernel import ROWS_AT_A_TIME, WARPS, augment_kernel

def compiled(machine, dtype, size, reflect):
    constants = {"DROPOUT_SIZE": 16, "BY_AXIS": True, "REFLECT": reflect, "SIZE": size, "RETURN_DRAWS": False}
    constants |= {"ROW": triton.next_power_of_2(3 * size), "ROWS": ROWS_AT_A_TIME}
    types = {"images": "*u8", "indices": "*i64", "output": "*" + dtype, "draws": "*fp32", "seed": "i64"}
    types |= {"stored": "i32", "epoch": "*i64", **dict.fromkeys(constants, "constexpr")}
    names = augment_kernel.arg_names
    source = ASTSource(
        fn=augment_kernel,
        signature={name: types.get(name, "fp32") for name in names},
        constexprs=constants,
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in ("images", "indices", "output")},
    )
    kernel = triton.compile(source, target=GPUTarget("cuda", machine, 32), options={"num_warps": WARPS})
    tools = os.path.join(os.path.dirname(triton.__file__), "backends", "nvidia", "bin")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run([os.path.join(tools, tool), option, file.name], capture_output=True, text=True).stdout
            for tool, option in (("cuobjdump", "-res-usage"), ("nvdisasm", "-c"))
        )
    return {"usage": usage, "code": code, "ptx": kernel.asm["ptx"], "shared": kernel.metadata.shared}

print(json.dumps([compiled(*case) for case in json.loads(sys.argv[1])]))
"""
COMPILED = [(80, "fp32", 32, True), (80, "bf16", 24, False), (90, "bf16", 32, True), (90, "fp16", 16, False)]


@pytest.fixture(scope="module")
def compiled() -> list[dict[str, Any]]:
    """Every case of COMPILED, in a process where the interpreter is off."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", COMPILE, json.dumps(COMPILED)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", range(len(COMPILED)), ids=str)
def test_the_kernel_compiles_to_few_instructions_without_spills(compiled, case):
    found = compiled[case]
    assert re.findall(r"STACK:(\d+)", found["usage"]) == ["0"]
    (registers,) = re.findall(r"REG:(\d+)", found["usage"])
    assert int(registers) <= 64  # four programs of 256 threads a multiprocessor
    assert not re.findall(r"\b(?:STL|LDL)\b", found["code"])
    assert 500 < len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/", found["code"], re.MULTILINE)) < 1500
    assert found["shared"] <= 8192


@pytest.mark.parametrize("case", range(len(COMPILED)), ids=str)
def test_the_scale_is_rounded_twice(compiled, case):
    """Contracted to one rounding, a draw would no longer equal the others' to the bit."""
    ptx = compiled[case]["ptx"]
    made_by = {register: kind for kind, register in re.findall(r"(\S+)\s+(%r\d+), [^;]*;", ptx)}
    widened = [made_by.get(register) for register in re.findall(r"cvt\.f64\.f32\s+%\w+, (%\w+);", ptx)]
    assert widened.count("mul.f32") >= 2  # along x and along y
    assert "fma.rn.f32" not in widened
