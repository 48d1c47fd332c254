"""`fastcifar report`."""

import json
from pathlib import Path
from typing import Annotated

import typer


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FOLDER", help="Where to write; default: the run folder, ./report for several folders."
        ),
    ] = None,
    readme: Annotated[
        bool, typer.Option("--readme", help="Write README.md too: the section to hand in, with its pictures.")
    ] = False,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="Folder or archive with CIFAR-10.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make a page of a run (report.html, which needs no other file) and its figures as PNG.

    It shows curves, confusion matrix, precision and recall, calibration, the
    surest mistakes with Grad-CAM, augmentation, layers, the assignment's rules,
    settings, machine and times. The last weights are evaluated once more for
    it. Several runs, or a folder of several seeds, become one page that
    compares them: curves in one figure, means with their spread.
    """
    from fastcifar.report.pages import write_page
    from fastcifar.report.record import read_record, single_runs
    from fastcifar.report.several import several_page
    from fastcifar.report.single import page, single_report

    folders = list(dict.fromkeys(single for run in runs for single in single_runs(run)))
    if len(folders) == 1:
        made = page(single_report(folders[0], data_dir, device))
    else:
        made = several_page([read_record(folder) for folder in folders])
    place = output or (runs[0] if len(runs) == 1 else Path("report"))
    written = write_page(made, place, readme)
    if as_json:
        figures = written[2:] if readme else written[1:]
        content = {
            "page": str(written[0]),
            "readme": str(written[1]) if readme else None,
            "figures": [str(path) for path in figures],
            "runs": [str(folder) for folder in folders],
        }
        typer.echo(json.dumps(content, indent=2))
    else:
        typer.echo(f"page: {written[0]}")
        if readme:
            typer.echo(f"README section: {written[1]}")
        typer.echo(f"figures: {written[-1].parent}")
