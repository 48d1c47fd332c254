"""Triton kernels compiled without a GPU, and what their machine code says."""

import functools
import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Machine:
    """What the compiler made for one architecture.

    Attributes:
        registers: of a thread.
        stack: bytes of local memory a thread.
        shared: bytes of shared memory a program.
        instructions: of the whole kernel, by name.
        loop: of its longest loop alone; of all where there is none.
        ptx: the intermediate code.
    """

    registers: int
    stack: int
    shared: int
    instructions: Counter[str]
    loop: Counter[str]
    ptx: str


def compile_kernel(
    kernel: Any, types: dict[str, str], constants: dict[str, Any], architecture: int, **options: Any
) -> Machine:
    """Compile for compute capability architecture / 10; pointers are taken to be aligned, as torch's are.

    types: of the arguments, in Triton's names ("*bf16", "i32"). constants: the rest, None included.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in constants else types[name] for name in names},
        constexprs={name: value for name, value in constants.items() if name in names},
        attrs={
            (names.index(name),): [["tt.divisibility", 16]]
            for name in names
            if name not in constants and types[name].startswith("*")
        },
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    usage, code = _disassembled(compiled.asm["cubin"])
    (registers,), (stack,) = re.findall(r"REG:(\d+)", usage), re.findall(r"STACK:(\d+)", usage)
    whole, loop = _instructions(code), _instructions(_longest_loop(code))
    return Machine(int(registers), int(stack), compiled.metadata.shared, whole, loop, compiled.asm["ptx"])


@functools.cache
def _tools() -> Path:
    import triton

    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


def _disassembled(cubin: bytes) -> tuple[str, str]:
    import tempfile

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        commands = [_tools() / "cuobjdump", "-res-usage", file.name], [_tools() / "nvdisasm", "-c", file.name]
        usage, code = (subprocess.run(c, check=True, capture_output=True, text=True).stdout for c in commands)
    return usage, code


def _instructions(code: str) -> Counter[str]:
    return Counter(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+\s+)?([A-Z][A-Z0-9]+)", code, re.MULTILINE))


def _longest_loop(code: str) -> str:
    """From the label that a branch goes back to, to that branch."""
    lines = code.splitlines()
    labels = {found[1]: line for line, text in enumerate(lines) if (found := re.match(r"(\.L\w+):", text))}
    spans = [(0, len(lines))]
    for line, text in enumerate(lines):
        found = re.search(r"\bBRA\b.*`\((\.L\w+)\)", text)
        if found and labels.get(found[1], line) < line:
            spans.append((labels[found[1]], line + 1))
    loops = spans[1:] or spans
    start, end = max(loops, key=lambda span: span[1] - span[0])
    return "\n".join(lines[start:end])
