"""`fastcifar data ...`: find, download, import, look at and export data sets."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

data_app = typer.Typer(no_args_is_help=True, help="Find, download, import, look at and export data sets.")

DatasetOption = Annotated[str, typer.Option("--dataset", help="cifar10, or shapes10, which is built in.")]
DataDirOption = Annotated[
    str | None, typer.Option("--data-dir", help="File or folder to read, instead of searching for one.")
]
OfflineOption = Annotated[
    bool, typer.Option("--offline", envvar="FASTCIFAR_DATA_OFFLINE", help="Never use the network.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def _note(message: str) -> None:
    typer.echo(message, err=True)


def _print_result(record: dict[str, Any], lines: list[str], as_json: bool) -> None:
    typer.echo(json.dumps(record, indent=2) if as_json else "\n".join(lines))


@data_app.command("find")
def find(
    dataset: DatasetOption = "cifar10",
    data_dir: DataDirOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say where data was looked for, what lies there, and which of it will be used."""
    from fastcifar.dataset.load import find_dataset

    record = find_dataset(dataset, data_dir, offline)
    lines = []
    for place in record["searched"]:
        found = ", ".join(f"{layout['layout']} {layout['path']}" for layout in place["found"])
        lines.append(f"{place['from']} ({place['path']}): {found or 'nothing'}")
    _print_result(record, [*lines, f"used: {record['source']}"], as_json)


@data_app.command("download")
def download(
    offline: OfflineOption = False,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to keep it in, instead of the cache.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Download CIFAR-10 (170 MB), check it, and keep it in a form that loads quickly."""
    from fastcifar.dataset.download import download_cifar10

    path = download_cifar10(to, offline, progress=sys.stderr.isatty())
    if to:
        _note(f"use it with --data-dir {path}")
    _print_result({"path": str(path)}, [str(path)], as_json)


@data_app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="File or folder in any layout that `data find` recognises.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="File (.npz) or folder to write, instead of the cache.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a copy of the data and keep it in a form that loads quickly."""
    from fastcifar.dataset.importer import import_dataset

    written, dataset = import_dataset(path, to)
    if to or dataset.name != "cifar10":
        _note(f"use it with --data-dir {written}")
    record = {
        "path": str(written),
        "dataset": dataset.name,
        "train_images": len(dataset.train),
        "test_images": len(dataset.test),
    }
    line = f"{dataset.title}: {len(dataset.train):,} training and {len(dataset.test):,} test images -> {written}"
    _print_result(record, [line], as_json)


@data_app.command("stats")
def stats(
    dataset: DatasetOption = "cifar10",
    data_dir: DataDirOption = None,
    grid: Annotated[
        Path | None, typer.Option("--grid", help="Picture of samples to write; default ./<dataset>-grid.png.")
    ] = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Count the images of each class, measure the colours, and draw a grid of samples."""
    from fastcifar.dataset.grid import write_sample_grid
    from fastcifar.dataset.load import load_dataset
    from fastcifar.dataset.summary import dataset_summary, summary_lines

    data = load_dataset(dataset, data_dir, offline)
    grid = grid or Path(f"{data.name}-grid.png")
    record = dataset_summary(data)
    write_sample_grid(data, grid)
    if record["as_published"] is False:
        _note("the colours are not quite CIFAR-10's published ones: changed or re-compressed images?")
    _print_result(record | {"grid": str(grid)}, [*summary_lines(record), f"samples: {grid}"], as_json)


@data_app.command("export")
def export(
    to: Annotated[Path | None, typer.Option("--to", help="New folder to write; default ./<dataset>-<format>.")] = None,
    file_format: Annotated[
        str, typer.Option("--format", help="folders (of PNG files) or webdataset (tar shards).")
    ] = "folders",
    limit: Annotated[
        int | None, typer.Option("--limit", help="At most so many images of each split, evenly over classes.")
    ] = None,
    dataset: DatasetOption = "cifar10",
    data_dir: DataDirOption = None,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the images for other programs: class folders of PNG files, or WebDataset shards."""
    from fastcifar.dataset.export import export_dataset
    from fastcifar.dataset.load import load_dataset

    data = load_dataset(dataset, data_dir, offline)
    target = to or Path(f"{data.name}-{file_format}")
    count = export_dataset(data, target, file_format, limit)
    record = {"path": str(target), "dataset": data.name, "format": file_format, "images": count}
    _print_result(record, [f"{data.title}: {count:,} images -> {target}"], as_json)
