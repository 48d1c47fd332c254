"""`fastcifar predict`."""

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from fastcifar.errors import DataError


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a weights file of one.")],
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE...", help="Pictures of any size and format, or folders of them.", show_default=False
        ),
    ],
    top: Annotated[int, typer.Option("--top", metavar="K", min=1, help="How many classes to name for each.")] = 3,
    best: Annotated[bool, typer.Option("--best", help="The best epoch's weights instead of the last's.")] = False,
    gradcam: Annotated[
        Path | None,
        typer.Option(
            "--gradcam", metavar="FILE.png", help="Picture to write: where the network saw the likeliest class."
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Say what a run's network takes pictures for: the likeliest classes, and how sure it is.

    A picture's shorter side is brought to 32 pixels, with antialiasing, and the
    middle of the longer one is kept. Transparent parts become white; EXIF says
    which way is up. A network finds one of the classes that it was trained on
    in any picture. What cannot be read is named, a line each; the others are
    classified all the same, and the exit code is then 3.

    The picture that --gradcam writes shows the first 20 images, each beside what
    the network sees of it and, in colour, where it saw the evidence.
    """
    from fastcifar.predict import predict as predicted
    from fastcifar.predict_picture import MOST_ROWS

    record, failures = predicted(run, pictures, top=top, best=best, device=device, gradcam_file=gradcam)
    if as_json:
        typer.echo(json.dumps(record, indent=2))
    elif record["images"]:
        typer.echo("\n".join(_lines(record)))
        if gradcam is not None:
            count = len(record["images"])
            extent = f" (the first {MOST_ROWS} of {count:,} images)" if count > MOST_ROWS else ""
            typer.echo(f"\nGrad-CAM: {typer.format_filename(gradcam)}{extent}")
    for failure in failures:
        typer.echo(f"fastcifar: {failure.what} - {failure.hint}", err=True)
    if failures:
        raise typer.Exit(DataError.exit_code)


def _lines(record: dict[str, Any]) -> list[str]:
    """The table: a row an image, broken into several where a terminal is too narrow."""
    from rich.cells import cell_len, set_cell_size

    names = [typer.format_filename(image["file"]) for image in record["images"]]
    predictions = [image["predictions"] for image in record["images"]]
    class_width = max(cell_len(one["class"]) for row in predictions for one in row)
    name_width = max(map(cell_len, [*names, "image"]))
    in_row = len(predictions[0])
    if sys.stdout.isatty():
        columns = shutil.get_terminal_size().columns
        cell = class_width + len("  100.0 %   ")
        name_width = min(name_width, max(columns // 3, columns - 3 - in_row * cell))
        in_row = max(1, min(in_row, (columns - name_width) // cell))
    lines = [
        f"{record['model']} trained on {record['dataset']}, {record['weights']}",
        "",
        f"{'image':<{name_width}}   class and confidence, the likeliest first",
    ]
    for name, row in zip(names, predictions, strict=True):
        if cell_len(name) > name_width:
            name = "..." + name[3 - name_width :]
        cells = [f"{set_cell_size(one['class'], class_width)}  {100 * one['probability']:>5.1f} %" for one in row]
        for start in range(0, len(cells), in_row):
            lead = set_cell_size(name if start == 0 else "", name_width)
            lines.append("   ".join([lead, *cells[start : start + in_row]]))
    return lines
