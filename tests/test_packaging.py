"""The wheel: what is in it, that it installs, and that the command starts quickly because it imports little."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def build(folder: Path, **environment: str) -> Path:
    """Built as `pip install .` builds it, but without fetching the build backend again where it is installed."""
    isolation = []
    if subprocess.run([sys.executable, "-c", "import scikit_build_core"], capture_output=True).returncode == 0:
        isolation = ["--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *isolation, "-w", str(folder), str(ROOT)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def pure_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a machine without a C++ compiler makes."""
    return build(tmp_path_factory.mktemp("pure"), CXX="/no/compiler")


def run_installed(wheel: Path, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Code run in another folder, with the wheel installed for it alone and everything else as here."""
    target = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # -S keeps the hook of an editable install out, which would win over any path.
    start = (
        f"import sys; sys.path[:0] = [{str(target)!r}, *{[path for path in sys.path if 'site-packages' in path]!r}]\n"
    )
    return subprocess.run([sys.executable, "-S", "-c", start + code], cwd=folder, capture_output=True, text=True)


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_nothing_else(wheel: Path) -> None:
    assert re.fullmatch(rf"fastcifar-{re.escape(PROJECT['version'])}-py3-none-linux_.*\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"fastcifar", "fastcifar_kernels", f"fastcifar-{PROJECT['version']}.dist-info"}
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "fastcifar").rglob("*.py")}
    expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "fastcifar").rglob("*.toml")}
    expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "fastcifar").rglob("*.j2")}
    expected |= {str(path.relative_to(ROOT / "kernels")) for path in (ROOT / "kernels").rglob("*.py")}
    assert expected <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".bin", ".npz"))]
    built = {name for name in names if name.startswith("fastcifar_kernels/") and not name.endswith(".py")}
    for device, tool in (("cpu", "g++"), ("cuda", "nvcc")):
        ending = "so" if shutil.which(tool) else "txt"
        assert f"fastcifar_kernels/fastcifar_kernels_{device}.{ending}" in built
    assert len(built) == 2  # no source, no header


@pytest.mark.slow
def test_the_installed_wheel_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    code = f"""
import fastcifar, fastcifar_kernels, fastcifar.cli
assert fastcifar.__file__.startswith({str(tmp_path)!r}), fastcifar.__file__
from fastcifar.settings import resolve
print(resolve("demo", environment={{}}).config.data.dataset)
"""
    done = run_installed(wheel, tmp_path, code)
    assert done.stdout == "shapes10\n", done.stderr


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_where_nvcc_fails_the_cpu_library_is_built_all_the_same(tmp_path: Path) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\nexit 1\n")
    nvcc.chmod(0o755)
    archive = zipfile.ZipFile(build(tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}"))
    assert "fastcifar_kernels/fastcifar_kernels_cpu.so" in archive.namelist()
    assert archive.read("fastcifar_kernels/fastcifar_kernels_cuda.txt") == b"nvcc failed when the package was built\n"


AUGMENTED = """
import torch
from fastcifar.augment.policy import AugmentPolicy
from fastcifar.loader.resident import ResidentLoader
from fastcifar_kernels.backend import backends
images = torch.arange(7 * 3072).reshape(7, 32, 32, 3).to(torch.uint8)
loader = ResidentLoader(images, torch.arange(7), 7, policy=AugmentPolicy(affine=1.0), mean=(0.5,) * 3, std=(0.25,) * 3,
                        seed=0, device="cpu", dtype=torch.float32, shuffle=False, drop_last=False)
((batch, _),) = list(loader)
print([f"{one.device}: {one.used}: {one.reason}" for one in backends() if one.operator == "augment"])
print(batch.double().sum().item())
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_the_compiled_operators_and_the_pure_install_make_the_same_batches(wheel, pure_wheel, tmp_path) -> None:
    totals = []
    for name, path in (("compiled", wheel), ("pure", pure_wheel)):
        (tmp_path / name).mkdir()
        done = run_installed(path, tmp_path / name, AUGMENTED)
        assert done.returncode == 0, done.stderr
        served, total = done.stdout.splitlines()
        totals.append(float(total))
        said = "cpu: c++: the library loads" if name == "compiled" else "cpu: none: no C++17 compiler was found"
        assert said in served
    assert totals[0] == pytest.approx(totals[1], abs=0.05)  # of 21,504 numbers
    assert not [name for name in zipfile.ZipFile(pure_wheel).namelist() if name.endswith(".so")]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["data", "--help"], ["--version"]])
def test_help_imports_no_torch(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["fastcifar", *{arguments!r}]
from fastcifar.cli import main
try:
    main()
except SystemExit as stop:
    heavy = {{"torch", "numpy", "matplotlib", "PIL", "pooch", "captum", "tensorboard", "wandb"}} & set(sys.modules)
    print("HEAVY", sorted(heavy), stop.code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"


def test_who_compiles_nothing_waits_for_no_compiler() -> None:
    """torch._dynamo takes seconds to import."""
    modules = "fastcifar.doctor, fastcifar.predict, fastcifar.reevaluate"
    code = f"import {modules}, sys; fastcifar.doctor.examine(); print('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_version_is_said_once() -> None:
    from fastcifar import __version__

    assert __version__ == PROJECT["version"]


def test_every_dependency_of_ci_is_pinned() -> None:
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = PROJECT["optional-dependencies"]
    (ours,) = (requirement for requirement in extras["test"] if requirement.startswith("fastcifar["))
    included = ours.removeprefix("fastcifar[").removesuffix("]").split(",")
    assert {"parity", "onnx", "tensorboard", "wandb"} <= set(included)
    wanted = itertools.chain(PROJECT["dependencies"], extras["test"], *(extras[name] for name in included))
    names = {re.split(r"[\[<>=!~ ]", requirement)[0].lower() for requirement in wanted}
    assert names - {"fastcifar"} <= pinned


def test_the_packages_that_share_a_name_are_never_depended_on() -> None:
    text = " ".join(itertools.chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()))
    assert "albumentationsx" not in text
    assert not re.search(r"\bapex\b", text)


def test_no_registry_or_path_of_a_machine_is_named() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"--(extra-)?index-url|--find-links|/(root|home/\w+)/")
    texts = (path for path in map(ROOT.joinpath, tracked) if path.suffix in {".py", ".toml", ".md", ".txt", ""})
    found = [str(p) for p in texts if p.name != "test_packaging.py" and p.is_file() and pattern.search(p.read_text())]
    assert found == []


def test_public_names_are_found_where_they_are_said_to_be() -> None:
    import fastcifar

    for name, home in fastcifar._HOMES.items():
        assert getattr(fastcifar, name) is getattr(sys.modules[home], name)
        assert name in dir(fastcifar)
    with pytest.raises(AttributeError, match="no attribute 'fast'"):
        _ = fastcifar.fast
