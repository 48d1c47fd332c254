"""`fastcifar parity`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastcifar.errors import CheckFailedError, FastcifarError, UsageError

if TYPE_CHECKING:
    from fastcifar.parity.backends import Backend


def parity(
    count: Annotated[int, typer.Option("--images", help="How many training images to compare.")] = 1000,
    border: Annotated[str | None, typer.Option("--border", help="reflect-101 or constant; default both.")] = None,
    picture: Annotated[Path, typer.Option("--picture", help="PNG to write, with the differences amplified.")] = Path(
        "parity.png"
    ),
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="cifar10 or shapes10; default cifar10 where it is found.")
    ] = None,
    data_dir: Annotated[str | None, typer.Option("--data-dir", help="Folder or archive with CIFAR-10.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Compare what albumentations, DALI and torch do to the same pixels with the same draws; exit 6 beyond a bound."""
    from fastcifar.augment.policy import BORDERS

    if border is not None and border not in BORDERS:
        raise UsageError(f"--border {border} is not known", f"use {' or '.join(BORDERS)}")
    if count < 10:
        raise UsageError(f"--images {count} is too few to compare", "use 10 or more")

    import torch

    from fastcifar.augment.requirements import require_albumentations
    from fastcifar.dataset.statistics import channel_statistics
    from fastcifar.environment import describe_environment
    from fastcifar.parity.backends import albumentations_backend
    from fastcifar.parity.compare import compare_backends
    from fastcifar.parity.picture import write_picture

    truth = albumentations_backend()
    others, left_out = _backends("cuda" if torch.cuda.is_available() else None)
    data = _load(dataset, data_dir)
    images, statistics = data.train.images[:count], channel_statistics(data.train.images)
    borders = [border] if border else list(BORDERS)
    found = list(compare_backends(images, truth, others, statistics.mean, statistics.std, borders))
    write_picture(images, truth, others, statistics.mean, borders[0], picture)
    broken = [row for row in found if row.holds is False]
    record = {
        "dataset": data.title,
        "images": len(images),
        "holds": not broken,
        "differences": [_as_dict(row) for row in found],
        "left_out": left_out,
        "versions": {"albumentations": require_albumentations(), "dali": _dali_version()},
        "picture": str(picture),
        "environment": describe_environment(),
    }
    typer.echo(json.dumps(record, indent=2) if as_json else "\n".join(_lines(record)))
    if broken:
        names = sorted({f"{row.transform} in {row.backend} ({row.device})" for row in broken})
        raise CheckFailedError(f"beyond their bounds: {', '.join(names)}", f"look at {picture}")


def _backends(gpu: str | None) -> "tuple[list[Backend], list[str]]":
    """What is compared with albumentations, and why the rest is not."""
    from fastcifar.parity.backends import dali_backend, torch_backend

    others, left_out = [torch_backend("cpu")], []
    try:
        others.insert(0, dali_backend("cpu"))
    except FastcifarError as error:
        left_out.append(f"{error.what} - {error.hint}")
    else:
        others += [dali_backend(gpu)] if gpu else []
    others += [torch_backend(gpu)] if gpu else []
    if not gpu:
        left_out.append("no GPU here: its operators were not compared")
    return others, left_out


def _dali_version() -> str | None:
    from fastcifar.augment.requirements import require_dali

    try:
        return require_dali()
    except FastcifarError:
        return None


def _load(dataset: str | None, data_dir: str | None) -> Any:
    from fastcifar.dataset.load import load_dataset

    try:
        return load_dataset(dataset or "cifar10", data_dir, offline=True)
    except FastcifarError as error:
        if dataset or data_dir:
            raise
        typer.echo(f"{error.what}: comparing shapes10 images instead", err=True)
        return load_dataset("shapes10")


def _as_dict(row: Any) -> dict[str, Any]:
    bound = None if row.bound is None else vars(row.bound)
    return vars(row) | {"bound": bound, "holds": row.holds}


VERDICTS = {True: "holds", False: "BROKEN", None: "no bound yet"}
COLOURS = {True: "green", False: "red", None: "yellow"}


def _lines(record: dict[str, Any]) -> list[str]:
    lines = [
        f"{record['images']:,} {record['dataset']} training images; differences in grey levels of 255",
        "",
        f"{'transform':<25} {'border':<11} {'backends':<29} {'max':>5} {'mean':>8} {'p99':>5} {'differ':>9}  verdict",
    ]
    for row in record["differences"]:
        backends = f"{row['reference']} : {row['backend']} ({row['device']})"
        verdict = typer.style(VERDICTS[row["holds"]], fg=COLOURS[row["holds"]])
        lines.append(
            f"{row['transform']:<25} {row['border'] or '-':<11} {backends:<29} {row['largest']:>5.3g} "
            f"{row['mean']:>8.1e} {row['p99']:>5.3g} {row['share']:>9.2e}  {verdict}{_allowed(row['bound'])}"
        )
    return [*lines, "", *record["left_out"], f"picture: {record['picture']}"]


def _allowed(bound: dict[str, float] | None) -> str:
    if bound is None:
        return ""
    if bound["largest"] == 0:
        return " (exact)"
    return f" (max {bound['largest']:g}, {bound['share']:.0e})"
