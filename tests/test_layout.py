"""The architecture, checked on the source: imports point one way, nothing goes in circles, files stay small."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fastcifar"
MAX_LINES = 400

# A module imports only from rows above its own, or from its own. The longest matching prefix decides.
# The package itself ("") may be imported from anywhere: it holds the version, and names that it finds lazily.
ROWS = [
    [
        "errors",
        "paths",
        "atomic",
        "process",
        "augment.policy",
        "config",
        "settings",
        "allocator",
        "waiting",
        "relaunch",
    ],
    ["runtime", "environment", "plans", "gpu_timing"],
    ["dataset"],
    ["augment"],
    ["loader", "model"],
    [
        "training.muon",
        "training.optimizer",
        "training.schedule",
        "training.averaging",
        "training.step",
        "training.observer",
        "evaluation",
    ],
    ["training"],
    ["reevaluate", "parity", "doctor", "tuning", "predict", "predict_picture", "export", "export_formats"],
    ["report"],
    ["", "cli", "__main__"],
]


def modules(package: Path) -> dict[str, Path]:
    """Dotted name below the package ("" for its __init__) -> file."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path: Path, package_name: str) -> set[str]:
    """Dotted names, below the package, that a file imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {n.removeprefix(package_name).lstrip(".") for n in names if n.split(".")[0] == package_name}
    return found


def row(module: str) -> int:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        for number, names in enumerate(ROWS):
            if ".".join(parts[:length]) in names:
                return number
    assert module == "", f"{module} stands in no row of ROWS"
    return len(ROWS) - 1


def upward_imports(graph: dict[str, set[str]]) -> list[str]:
    return [
        f"{module} imports {other}" for module, others in graph.items() for other in others if row(other) > row(module)
    ]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """A chain of imports that returns to its start, or nothing."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            if found := visit(other, [*trail, module]):
                return found
        done.add(module)
        return []

    return next((found for module in graph if (found := visit(module, []))), [])


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    files = modules(PACKAGE)
    return {
        name: {m for m in imports(path, "fastcifar") if m in files and m != name} - {""} for name, path in files.items()
    }


def test_imports_point_one_way(graph: dict[str, set[str]]) -> None:
    assert upward_imports(graph) == []


def test_there_is_no_circle(graph: dict[str, set[str]]) -> None:
    assert circle(graph) == []


def test_planted_faults_are_caught() -> None:
    assert upward_imports({"dataset.load": {"training.step"}}) == ["dataset.load imports training.step"]
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_kernels_never_import_fastcifar() -> None:
    for path in (ROOT / "kernels" / "fastcifar_kernels").rglob("*.py"):
        assert imports(path, "fastcifar") == set(), path


def test_no_folder_is_called_like_the_package_on_the_index() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_files_stay_small() -> None:
    sources = [p for folder in ("fastcifar", "kernels", "benchmarks", "tests") for p in (ROOT / folder).rglob("*")]
    long = {
        str(path.relative_to(ROOT)): count
        for path in sources
        if path.suffix in {".py", ".cpp", ".cu", ".h"}
        and "third_party" not in path.parts
        and (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}
