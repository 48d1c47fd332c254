"""The example notebook runs from the first cell to the last, and every command in it succeeds."""

import os
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).parents[1] / "examples" / "colab.ipynb"
SHORT = {
    "FASTCIFAR_SCHEDULE_EPOCHS": "1",
    "FASTCIFAR_SCHEDULE_IMAGE_SIZES": "[[0.0, 8]]",
    "FASTCIFAR_RUNTIME_DEVICE": "cpu",
}


def read_notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def execute(clean_environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Runs a notebook below tmp_path; a `!command` that fails ends it, where Jupyter would go on."""
    for name, value in SHORT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def run(notebook: nbformat.NotebookNode) -> None:
        for cell in code_cells(notebook):
            cell.source = re.sub(r"^(!.*)$", r"\1\nassert _exit_code == 0", cell.source, flags=re.MULTILINE)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    return run


def test_ten_cells_and_nothing_left_in_them() -> None:
    notebook = read_notebook()
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [re.match(r"# (\d+)\. ", cell.source).group(1) for cell in cells] == [str(n) for n in range(1, 11)]  # pyright: ignore[reportOptionalMemberAccess]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


@pytest.mark.slow
def test_it_runs(execute, tmp_path: Path) -> None:
    notebook = read_notebook()
    execute(notebook)
    cells = code_cells(notebook)
    shown = [{kind for output in cell.outputs for kind in output.get("data", {})} for cell in cells]
    assert [number for number, kinds in enumerate(shown, start=1) if "image/png" in kinds] == [3, 5, 9]
    assert "text/markdown" in shown[7]
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]
    assert re.search(r"^\d+\.\d\d % of the shapes10 \(not CIFAR-10\) test images$", printed[5], re.MULTILINE)
    assert (tmp_path / "network.pt2").exists()
    (page,) = (tmp_path / "runs").glob("*/report.html")
    assert page.stat().st_size > 100_000


@pytest.mark.slow
def test_a_command_that_fails_is_caught(execute) -> None:
    cell = nbformat.v4.new_code_cell("!fastcifar summary no-such-network")
    with pytest.raises(CellExecutionError):
        execute(nbformat.v4.new_notebook(cells=[cell]))
