"""`fastcifar export`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a weights file of one.")],
    format: Annotated[
        str | None, typer.Option("--format", help="onnx or pt2; need not be said where --output does.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write, instead of one beside the weights.")
    ] = None,
    fold: Annotated[
        bool,
        typer.Option(
            "--fold-batch-norm", help="Take batch-norm into the convolutions before it; ONNX has it so anyway."
        ),
    ] = False,
    best: Annotated[bool, typer.Option("--best", help="The best epoch's weights instead of the last's.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Write a run's network as one file for ONNX or for torch.export, and check that it gives the same logits.

    The file takes batches of any size: float32, batch x 3 x 32 x 32, planes
    red, green, blue, normalised as in training: (pixel / 255 - mean) / std.
    Normalising is not part of it, as is usual for such files; mean, std and the
    classes' names stand in its metadata (in a .pt2, in fastcifar.json). A file
    whose logits differ by more than 1e-4 is not kept.
    """
    from fastcifar.export import export as exported

    record = exported(run, format, output, fold, best)
    typer.echo(json.dumps(record, indent=2) if as_json else "\n".join(_lines(record)))


def _lines(record: dict[str, Any]) -> list[str]:
    metadata = record["metadata"]
    shown = {
        "input": metadata["input"],
        "mean": ", ".join(f"{value:.4f}" for value in metadata["mean"]),
        "std": ", ".join(f"{value:.4f}" for value in metadata["std"]),
        "output": metadata["output"],
        "classes": ", ".join(metadata["classes"]),
        "batch-norm": metadata["batch_norm"],
        "checked": f"{record['images']} images, logits differ by {record['largest_difference']:.1e} at most",
    }
    return [f"{record['file']}, {record['bytes']:,} bytes", "", *(f"{key:<11} {value}" for key, value in shown.items())]
