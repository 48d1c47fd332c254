"""`fastcifar evaluate`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    best: Annotated[bool, typer.Option("--best", help="The best epoch's weights instead of the last's.")] = False,
    tta: Annotated[bool, typer.Option("--tta", help="Average the logits of each image and its mirror image.")] = False,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Another data set than the run's.")] = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="Folder or archive with CIFAR-10.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure a run's weights on the test images (or its hold-out): accuracy, classes, confusion, calibration."""
    from fastcifar.reevaluate import reevaluate

    result = reevaluate(run, best=best, tta=tta, dataset=dataset, data_dir=data_dir, device=device)
    typer.echo(json.dumps(result, indent=2) if as_json else "\n".join(_as_lines(result)))


def _as_lines(result: dict[str, Any]) -> list[str]:
    names = list(result["per_class_accuracy"])
    width = max(len(name) for name in names)
    lines = [
        f"{result['accuracy']:.2f} % of {result['images']:,} {result['dataset']} {result['evaluated_on']} images, "
        f"{result['weights']} epoch, {'flip TTA' if result['tta'] else 'no TTA'}",
        f"cross-entropy {result['loss']:.4f}, calibration error {result['calibration_error']:.2f} %",
        "",
        f"{'true class':<{width}} {'right %':>8}   images predicted as class",
        f"{'':<{width}} {'':>8}   " + " ".join(f"{name[:5]:>5}" for name in names),
    ]
    for name, row in zip(names, result["confusion_matrix"], strict=True):
        percent = result["per_class_accuracy"][name]
        shown = "-" if percent is None else f"{percent:.2f}"
        lines.append(f"{name:<{width}} {shown:>8}   " + " ".join(f"{count:>5}" for count in row))
    return lines
