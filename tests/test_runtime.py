"""What is chosen, why, and what is said when a wish cannot be granted."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fastcifar import runtime as runtime_module
from fastcifar import waiting as waiting_module
from fastcifar.allocator import TUNABLES, allocator_state
from fastcifar.config import RuntimeConfig
from fastcifar.errors import DeviceError
from fastcifar.process import started_at
from fastcifar.relaunch import certainly_on_cpu
from fastcifar.runtime import Runtime, choose_runtime, cpu_has_bf16, disappointments, prepare
from fastcifar.settings import resolve
from fastcifar.waiting import SPIN_COUNT, waiting_environment, waiting_state

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU")


@without_gpu
def test_auto_falls_back_to_the_cpu_and_says_why() -> None:
    runtime = choose_runtime(RuntimeConfig())
    assert runtime.device.type == "cpu"
    assert runtime.choices["device"].used == "cpu"
    assert runtime.choices["device"].reason
    assert not runtime.choices["device"].disappoints


@without_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:3", "tpu", "mps", "cuda:x"])
def test_a_named_device_that_does_not_exist_is_an_error(device: str) -> None:
    with pytest.raises(DeviceError) as caught:
        choose_runtime(RuntimeConfig(device=device))
    assert caught.value.exit_code == 4
    assert device in str(caught.value)


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu sse avx2 avx512f\n", False),
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", True),
        ("processor : 0\nflags\t\t: fpu amx_bf16\n", True),
        ("processor : 0\nFeatures\t: fp asimd bf16 i8mm\n", True),
        ("processor : 0\nFeatures\t: fp asimd\n", False),
        ("", False),
    ],
)
def test_bf16_arithmetic_is_read_from_the_cpu_flags(
    cpuinfo: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module.Path, "read_text", lambda path: cpuinfo)
    assert cpu_has_bf16() is expected


def test_amp_on_a_cpu_without_bf16_warns_only_who_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "cpu_has_bf16", lambda: False)
    by_recipe = resolve("demo", {"runtime.device": ("--device", "cpu")}, environment={})
    runtime = choose_runtime(by_recipe.config.runtime)
    assert runtime.autocast_dtype is None
    assert disappointments(runtime, by_recipe) == []
    wishes = {"runtime.device": ("--device", "cpu"), "runtime.amp": ("--amp", True)}
    by_name = resolve("demo", wishes, environment={})
    lines = disappointments(choose_runtime(by_name.config.runtime), by_name)
    assert len(lines) == 1
    assert "amp" in lines[0]
    assert "bf16" in lines[0]
    strict = resolve("demo", wishes | {"runtime.strict": ("--strict", True)}, environment={})
    with pytest.raises(DeviceError, match="drop --strict"):
        disappointments(choose_runtime(strict.config.runtime), strict)


def test_fp16_is_not_for_cpus() -> None:
    runtime = choose_runtime(RuntimeConfig(device="cpu", amp_dtype="fp16"))
    assert runtime.autocast_dtype is None
    assert runtime.choices["amp"].disappoints
    assert not runtime.uses_grad_scaler


def test_compile_needs_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setenv("CC", sys.executable)
    assert runtime_module._choose_compile(True, gpu)[0]
    monkeypatch.setenv("CC", "no-such-compiler")
    assert not runtime_module._choose_compile(True, gpu)[0]
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    compiles, choice = runtime_module._choose_compile(True, gpu)
    assert not compiles
    assert "install gcc" in choice.reason


COMPILES = Runtime(torch.device("cpu"), None, True, torch.get_num_threads(), {})


@pytest.mark.usefixtures("clean_environment")
def test_compiled_code_is_kept_in_the_cache_unless_the_user_named_a_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prepare(dataclasses.replace(COMPILES, compile=False), deterministic=False)
    assert "TRITON_CACHE_DIR" not in os.environ
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/named")
    prepare(COMPILES, deterministic=False)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "/named"
    assert os.environ["TRITON_CACHE_DIR"] == str(tmp_path / "cache" / "triton")
    assert (tmp_path / "cache" / "triton").is_dir()


@pytest.mark.usefixtures("clean_environment")
def test_a_cache_that_cannot_be_written_is_not_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTCIFAR_CACHE_DIR", str(tmp_path / "file"))
    prepare(COMPILES, deterministic=False)
    assert not {"TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"} & os.environ.keys()


def test_what_would_only_slow_a_cpu_is_declined() -> None:
    runtime = choose_runtime(RuntimeConfig(device="cpu", amp=True, compile=True))
    assert (runtime.autocast_dtype, runtime.compile) == (None, False)
    assert runtime.choices["amp"].disappoints
    assert runtime.choices["compile"].disappoints


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_on_a_cpu_that_has_it_is_given_to_who_insists(has_bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "cpu_has_bf16", lambda: has_bf16)
    runtime = choose_runtime(RuntimeConfig(device="cpu", amp_dtype="bf16"))
    assert runtime.autocast_dtype == (torch.bfloat16 if has_bf16 else None)
    assert runtime.choices["amp"].disappoints is not has_bf16


@pytest.mark.parametrize(
    ("content", "expected"), [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("", None)]
)
def test_a_containers_quota_limits_the_threads(
    content: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module.Path, "read_text", lambda path: content)
    assert runtime_module._cgroup_cpus() == expected


def test_the_allocator_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", TUNABLES)
    assert allocator_state()[0] == "tuned"
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    assert allocator_state()[0] == "default"
    monkeypatch.delenv("GLIBC_TUNABLES")
    assert allocator_state()[0] == "default"


def test_how_threads_wait_is_reported_and_the_users_wish_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    assert waiting_state()[0] == "default"
    monkeypatch.setattr(waiting_module, "has_glibc", lambda: False)
    assert "starts itself" not in waiting_state()[1]
    assert waiting_environment() == {"GOMP_SPINCOUNT": SPIN_COUNT}
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert waiting_state() == ("OMP_WAIT_POLICY=ACTIVE", "OMP_WAIT_POLICY is set")
    assert waiting_environment() == {}
    monkeypatch.setenv("GOMP_SPINCOUNT", SPIN_COUNT)
    assert waiting_state()[0] == f"GOMP_SPINCOUNT={SPIN_COUNT}"


def test_the_cpu_is_certain_where_it_is_named() -> None:
    assert certainly_on_cpu("cpu")
    assert not certainly_on_cpu("cuda")


SET_BY_US = ("GLIBC_TUNABLES", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
PROBE = """
import os, sys
from fastcifar.relaunch import relaunch_for_cpu
relaunch_for_cpu()
print(os.getpid(), *map(os.environ.get, ("GLIBC_TUNABLES", "GOMP_SPINCOUNT")), sys.argv[1:], flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
@pytest.mark.parametrize(("name", "relaunched"), [("fastcifar", True), ("notebook", False)])
def test_the_command_restarts_itself_once_with_its_arguments(tmp_path: Path, name: str, relaunched: bool) -> None:
    script = tmp_path / name
    script.write_text(PROBE)
    environment = {key: value for key, value in os.environ.items() if key not in SET_BY_US}
    environment["PYTHONPATH"] = str(Path(runtime_module.__file__).parents[1])
    command = [sys.executable, str(script), "--set", "a b"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        output, _ = process.communicate(timeout=60)
    expected = f"{TUNABLES} {SPIN_COUNT}" if relaunched else "None None"
    assert output == f"{process.pid} {expected} ['--set', 'a b']\n"
    refused = environment | {"FASTCIFAR_ALLOCATOR": "default", "GOMP_SPINCOUNT": "7"}
    opted_out = subprocess.run(command, env=refused, capture_output=True, text=True, check=True)
    assert " None 7 " in opted_out.stdout


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_the_settings_of_a_cpu_run_can_be_had_for_other_programs() -> None:
    """As words for `env`, and none of them once they are set."""
    command = [sys.executable, "-m", "fastcifar.relaunch"]
    environment = {key: value for key, value in os.environ.items() if key not in SET_BY_US}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert first.split() == [f"GLIBC_TUNABLES={TUNABLES}", f"GOMP_SPINCOUNT={SPIN_COUNT}"]
    environment |= dict(word.split("=", 1) for word in first.split())
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "\n"


def test_the_process_start_is_before_now_and_after_boot() -> None:
    code = "import time, sys; sys.path.insert(0, sys.argv[1]); from fastcifar.process import started_at\n"
    code += "time.sleep(0.3); print(time.time() - started_at())"
    root = str(Path(runtime_module.__file__).parents[1])
    output = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=True).stdout
    assert 0.29 < float(output) < 60
    assert started_at() == pytest.approx(started_at(), abs=0.1)
