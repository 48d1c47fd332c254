"""Device, precision, compilation and threads: what was asked for, what is used, and why."""

import math
import os
import shutil
import sys
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fastcifar.allocator import allocator_state
from fastcifar.config import RuntimeConfig
from fastcifar.errors import DeviceError
from fastcifar.paths import compiled_code_dirs
from fastcifar.plans import use_measured_plans
from fastcifar.settings import ResolvedConfig
from fastcifar.waiting import waiting_state
from fastcifar_kernels.backend import backends

KEYS_BEHIND = {
    "amp": ("runtime.amp", "runtime.amp_dtype"),
    "compile": ("runtime.compile",),
    "graph": ("runtime.graph",),
    "optimizer": ("optimizer.backend",),
}
"""The settings whose asking by name a disappointed choice answers to."""


@dataclass(frozen=True)
class Choice:
    """One automatic or requested setting.

    Attributes:
        requested: the configured value.
        used: what the run does.
        reason: why, in a clause.
        disappoints: what was asked for cannot be had or would only slow the run.
    """

    requested: str
    used: str
    reason: str
    disappoints: bool = False


@dataclass(frozen=True)
class Runtime:
    """The resolved settings; `choices` explains each by name."""

    device: torch.device
    autocast_dtype: torch.dtype | None
    compile: bool
    threads: int
    choices: dict[str, Choice]
    graph: bool = False
    """Training steps and evaluation are captured in CUDA graphs."""

    @property
    def uses_grad_scaler(self) -> bool:
        """fp16's gradients underflow without a loss scale; bf16 has fp32's range."""
        return self.autocast_dtype == torch.float16

    def autocast(self) -> torch.autocast:
        """A context for the forward pass; does nothing where no reduced precision is used."""
        enabled = self.autocast_dtype is not None
        return torch.autocast(self.device.type, self.autocast_dtype or torch.bfloat16, enabled=enabled)

    def requested(self) -> dict[str, str]:
        return {name: choice.requested for name, choice in self.choices.items()}

    def used(self) -> dict[str, str]:
        return {name: choice.used for name, choice in self.choices.items()}

    def choices_as_dict(self) -> dict[str, dict[str, Any]]:
        return {name: asdict(choice) for name, choice in self.choices.items()}


def choose_runtime(config: RuntimeConfig) -> Runtime:
    """Decide every setting and give its reason; sets nothing.

    Raises:
        DeviceError: the device that was named does not exist.
    """
    device, device_choice = _choose_device(config.device)
    dtype, amp_choice = _choose_precision(config, device)
    compiles, compile_choice = _choose_compile(config.compile, device)
    threads, threads_choice = _choose_threads(config.threads)
    allocator, waiting = Choice("auto", *allocator_state()), Choice("auto", *waiting_state())
    if device.type == "cuda":
        allocator = replace(allocator, reason="malloc does not matter where the tensors live on the GPU")
        waiting = replace(waiting, reason="the CPU's threads have little to do")
    choices = {
        "device": device_choice,
        "amp": amp_choice,
        "compile": compile_choice,
        "threads": threads_choice,
        "waiting": waiting,
        "allocator": allocator,
        **{one.operator: Choice("auto", one.title, one.reason) for one in backends() if one.device == device.type},
    }
    return Runtime(device, dtype, compiles, threads, choices)


def disappointments(runtime: Runtime, resolved: ResolvedConfig) -> list[str]:
    """One line for each setting that the user asked for by name and does not get.

    Raises:
        DeviceError: there is one, and `runtime.strict` is set.
    """
    lines = [
        f"{name} {choice.requested} was asked for, {choice.used} is used: {choice.reason}"
        for name, choice in runtime.choices.items()
        if choice.disappoints and any(map(resolved.asked_by_name, KEYS_BEHIND.get(name, ())))
    ]
    if lines and resolved.config.runtime.strict:
        raise DeviceError("; ".join(lines), "drop --strict to go on without it")
    return lines


def prepare(runtime: Runtime, deterministic: bool) -> None:
    """Apply the process-wide settings of a run: threads, compiled code's place, TF32, measured plans, determinism."""
    torch.set_num_threads(runtime.threads)
    if runtime.compile or runtime.device.type == "cuda":
        _keep_compiled_code()
    if runtime.device.type == "cuda":
        torch.cuda.set_device(runtime.device)
        torch.backends.cudnn.benchmark = not deterministic
        torch.set_float32_matmul_precision("high")
        if warning := use_measured_plans(runtime.device):
            print(f"warning: {warning}", file=sys.stderr)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def _keep_compiled_code() -> None:
    """Let torch.compile and Triton keep what they compile from run to run; a folder that the user named stands."""
    for variable, folder in compiled_code_dirs().items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue  # it is compiled again each time, where torch and Triton put it
        os.environ.setdefault(variable, str(folder))


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _choose_device(requested: str) -> tuple[torch.device, Choice]:
    available, why_not = _cuda_available()
    if requested == "auto":
        if available:
            name = torch.cuda.get_device_name()
            return torch.device("cuda", torch.cuda.current_device()), Choice("auto", "cuda", f"{name} found")
        return torch.device("cpu"), Choice("auto", "cpu", why_not)
    try:
        device = torch.device(requested)
    except RuntimeError:
        raise DeviceError(f"--device {requested} is no device", "use auto, cpu, cuda or cuda:N") from None
    if device.type == "cpu":
        return torch.device("cpu"), Choice(requested, "cpu", "asked for")
    if device.type != "cuda":
        raise DeviceError(f"--device {requested} is not supported", "use auto, cpu, cuda or cuda:N")
    if not available:
        raise DeviceError(f"--device {requested}: {why_not}", "use --device cpu, or see `fastcifar doctor`")
    count = torch.cuda.device_count()
    index = device.index if device.index is not None else torch.cuda.current_device()
    if index >= count:
        raise DeviceError(f"--device {requested}: this machine has {count} GPU(s)", f"use cuda:0 to cuda:{count - 1}")
    return torch.device("cuda", index), Choice(requested, f"cuda:{index}", "asked for")


def _cuda_available() -> tuple[bool, str]:
    if torch.version.cuda is None:
        return False, "this torch was built without CUDA"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if torch.cuda.is_available():
            return True, ""
    if Path("/proc/driver/nvidia").exists():
        return False, f"the NVIDIA driver is too old or too new for torch's CUDA {torch.version.cuda}"
    return False, "no NVIDIA GPU or driver found"


def _choose_precision(config: RuntimeConfig, device: torch.device) -> tuple[torch.dtype | None, Choice]:
    if not config.amp:
        return None, Choice("off", "off (fp32)", "asked for")
    requested = config.amp_dtype if config.amp_dtype != "auto" else "on"
    if device.type == "cuda":
        if config.amp_dtype == "fp16":
            return torch.float16, Choice(requested, "fp16", "asked for; a gradient scaler is used")
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return torch.bfloat16, Choice(requested, "bf16", "this GPU computes in bf16")
        reason = "this GPU has no bf16 arithmetic (it came with Ampere); a gradient scaler is used"
        return torch.float16, Choice(requested, "fp16", reason, disappoints=config.amp_dtype == "bf16")
    if config.amp_dtype == "fp16":
        return None, Choice(requested, "off (fp32)", "CPUs train in fp32 or bf16", disappoints=True)
    if not cpu_has_bf16():
        reason = "this CPU has no bf16 arithmetic, autocast would run many times slower"
        return None, Choice(requested, "off (fp32)", reason, disappoints=True)
    if config.amp_dtype == "bf16":
        return torch.bfloat16, Choice(requested, "bf16", "asked for, and this CPU has bf16 arithmetic")
    # Measured on a CPU with AVX512_BF16: 0.56 to 1.02 of fp32's images/s over both networks at 16 and 32 pixels.
    reason = "autocast is no faster than fp32 on a CPU; --set runtime.amp_dtype=bf16 insists"
    return None, Choice(requested, "off (fp32)", reason, disappoints=True)


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware (AVX512_BF16, AMX or Arm's BF16), as the kernel reports it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.lower().startswith(("flags", "features"))), "").split()
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)


def _choose_compile(requested: bool, device: torch.device) -> tuple[bool, Choice]:
    if not requested:
        return False, Choice("off", "off", "not asked for")
    if device.type == "cpu":
        # Of eager's images/s, both networks: 0.73 to 0.97 on two cores of an AMD EPYC, where compiling took 6 to 22 s;
        # 0.84 and 1.00 on a Xeon's, at 32 pixels.
        reason = "on a CPU the compiled step is no faster than oneDNN's own kernels"
        return False, Choice("on", "off", reason, disappoints=True)
    chosen = os.environ.get("CC")
    if not any(shutil.which(name) for name in ([chosen] if chosen else ("cc", "gcc", "clang"))):
        return False, Choice("on", "off", "Triton needs a C compiler: install gcc", disappoints=True)
    return True, Choice("on", "on", "a compiler was found")


def _choose_threads(requested: int) -> tuple[int, Choice]:
    if requested:
        return requested, Choice(str(requested), str(requested), "asked for")
    threads = min(torch.get_num_threads(), len(os.sched_getaffinity(0)))
    quota = _cgroup_cpus()
    if quota is not None and quota < threads:
        return quota, Choice("auto", str(quota), "the container's CPU quota")
    return threads, Choice("auto", str(threads), "cores this process may use")


def _cgroup_cpus() -> int | None:
    """CPUs' worth of time that a container grants, rounded up (cgroup v2 `cpu.max`)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, math.ceil(int(quota) / int(period)))
