"""`fastcifar summary`."""

import json
import shutil
import sys
from typing import Annotated

import typer

NETWORK_HELP = "A name of the registry, package.module:Class or path/to/file.py:Class."

NetworkArgument = Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORK_HELP)]
ImageSizeOption = Annotated[int, typer.Option("--image-size", help="Pixels a side of the image to run on.", min=1)]
ClassesOption = Annotated[
    int | None,
    typer.Option("--classes", help="Classes of a registered network; default 10.", min=1, show_default=False),
]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a README.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def summary(
    network: NetworkArgument,
    image_size: ImageSizeOption = 32,
    classes: ClassesOption = None,
    markdown: MarkdownOption = False,
    as_json: JsonOption = False,
) -> None:
    """List a network's layers: shapes, parameters, MACs, and the receptive field by formula and proven."""
    from fastcifar.model.find import find_network
    from fastcifar.model.layer_table import markdown_lines, text_lines
    from fastcifar.model.summary import summarise

    found = summarise(find_network(network, classes), image_size)
    if as_json:
        typer.echo(json.dumps({"network": network} | found.as_dict(), indent=2))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        typer.echo("\n".join(markdown_lines(found) if markdown else text_lines(found, width)))
