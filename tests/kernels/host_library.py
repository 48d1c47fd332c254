"""C++ of the kernels compiled here for a level of x86-64."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "kernels" / "fastcifar_kernels"
MACHINES = ["x86-64", "x86-64-v3", "x86-64-v4"]


@functools.cache
def library(machine: str, operator: str, wrapper: str) -> ctypes.CDLL:
    """An operator's cpu.cpp and a wrapper of this folder, compiled with g++'s -march, or skipped with the reason."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    for level, feature in (("x86-64-v3", "avx2"), ("x86-64-v4", "avx512vl")):
        if machine == level and feature not in flags:
            pytest.skip(f"this machine has no {feature}")
    target = Path(tempfile.mkdtemp()) / f"{machine}.so"
    command = ["g++", "-std=c++17", "-O3", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fPIC", "-shared"]
    command += [f"-march={machine}", f"-I{KERNELS}", f"-I{KERNELS / 'include'}", "-o", str(target)]
    done = subprocess.run(
        [*command, str(HERE / wrapper), str(KERNELS / operator / "cpu.cpp")], capture_output=True, text=True
    )
    if "-march" in done.stderr:
        pytest.skip(f"g++ knows no {machine}")
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(target))
