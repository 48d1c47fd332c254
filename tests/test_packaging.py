"""The wheel: what is in it, that it installs, and that the command starts quickly because it imports little."""

import itertools
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `pip install .` builds it, but without fetching the build backend again where it is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = []
    if subprocess.run([sys.executable, "-c", "import scikit_build_core"], capture_output=True).returncode == 0:
        isolation = ["--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *isolation, "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_both_packages_and_nothing_else(wheel: Path) -> None:
    assert re.fullmatch(rf"fastcifar-{re.escape(PROJECT['version'])}-py3-none-.*\.whl", wheel.name)
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"fastcifar", "fastcifar_kernels", f"fastcifar-{PROJECT['version']}.dist-info"}
    expected = {str(path.relative_to(ROOT)) for path in (ROOT / "fastcifar").rglob("*.py")}
    expected |= {str(path.relative_to(ROOT)) for path in (ROOT / "fastcifar").rglob("*.toml")}
    assert expected <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith((".bin", ".npz"))]


@pytest.mark.slow
def test_the_installed_wheel_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # -S keeps the hook of an editable install out, which would win over any path.
    code = f"""
import sys; sys.path[:0] = [{str(target)!r}, {sysconfig.get_path("purelib")!r}]
import fastcifar, fastcifar_kernels, fastcifar.cli
assert fastcifar.__file__.startswith({str(target)!r}), fastcifar.__file__
from fastcifar.settings import resolve
print(resolve("demo", environment={{}}).config.data.dataset)
"""
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "shapes10\n", done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["data", "--help"], ["--version"]])
def test_help_imports_no_torch(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["fastcifar", *{arguments!r}]
from fastcifar.cli import main
try:
    main()
except SystemExit as stop:
    heavy = {{"torch", "numpy", "matplotlib", "PIL", "pooch", "captum"}} & set(sys.modules)
    print("HEAVY", sorted(heavy), stop.code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY [] 0"


def test_version_is_said_once() -> None:
    from fastcifar import __version__

    assert __version__ == PROJECT["version"]


def test_every_dependency_of_ci_is_pinned() -> None:
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + extras["test"] + extras["parity"] + extras["dali-cuda130"]
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
