"""`augment` in CUDA C++ without a GPU: compiled for both machines, with gates on registers, stack and spills."""

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
def test_the_kernel_needs_no_stack_and_few_registers(machine, tmp_path):
    command = [str(NVCC), "-std=c++17", "-O3", f"-arch={machine}", "-Xptxas", "-v", "-cubin"]
    command += [f"-I{KERNELS}", f"-I{KERNELS / 'include'}", "-o", str(tmp_path / "augment.cubin")]
    done = subprocess.run([*command, str(KERNELS / "augment" / "cuda.cu")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    used = [int(count) for count in re.findall(r"Used (\d+) registers", done.stderr)]
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
    shared = [int(count) for count in re.findall(r"(\d+) bytes smem", done.stderr)]
    assert len(used) == len(frames) == len(shared) == 3  # float32, float16, bfloat16
    assert max(used) <= MAX_REGISTERS
    assert set(frames) == {("0", "0", "0")}
    assert max(shared) <= 20_000  # eight blocks within the 164 KB of an A100's multiprocessor
