"""`sgd_ema` in CUDA C++ without a GPU: compiled for both machines, with gates on registers, stack, spills and loads."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels" / "fastcifar_kernels"
NVCC = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
MAX_REGISTERS = 40
"""Of 256 threads: six blocks of the 65,536 registers of a multiprocessor."""


@pytest.mark.skipif(NVCC is None, reason="no nvcc")
@pytest.mark.parametrize("machine", ["sm_80", "sm_90"])
def test_the_kernel_needs_no_stack_and_few_registers_and_loads_sixteen_bytes(machine, tmp_path):
    command = [str(NVCC), "-std=c++17", "-O3", f"-arch={machine}", "-Xptxas", "-v", "-cubin"]
    command += ["--keep", "--keep-dir", str(tmp_path), "-o", str(tmp_path / "sgd_ema.cubin")]
    command += [f"-I{KERNELS}", f"-I{KERNELS / 'include'}"]
    done = subprocess.run([*command, str(KERNELS / "sgd_ema" / "cuda.cu")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = [int(count) for count in re.findall(r"Used (\d+) registers", done.stderr)]
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    assert len(used) == len(frames) == 2  # tables of 84 and of 680 rows
    assert max(used) <= MAX_REGISTERS
    assert set(frames) == {("0", "0", "0")}
    (ptx,) = tmp_path.glob("*.ptx")
    kernels = ptx.read_text().split(".entry")[1:]
    assert len(kernels) == 2
    for kernel in kernels:
        assert len(re.findall(r"\bld\.global(?:\.nc)?\.v4\.", kernel)) >= 4  # parameter, gradient, momentum, average
        assert len(re.findall(r"\bst\.global\.v4\.", kernel)) >= 3
        assert "__local_depot" not in kernel


def test_a_table_fits_among_a_kernels_arguments():
    """4,096 bytes for any driver, 32,764 from CUDA 12.1 on; two pointers and a bool stand beside the table."""
    header = (KERNELS / "sgd_ema" / "block.h").read_text()
    few, many = (int(re.findall(rf"{name} = (\d+);", header)[0]) for name in ("kFewRows", "kManyRows"))
    assert few * 48 + 8 + 24 <= 4096
    assert many * 48 + 8 + 24 <= 32764
