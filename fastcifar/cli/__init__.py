"""The command line: parses, calls, prints. One file a command; torch is imported only once a command needs it."""

import signal
import sys
from typing import Annotated

import typer
from typer import Typer

from fastcifar import __version__
from fastcifar.cli.check import check
from fastcifar.cli.data import data_app
from fastcifar.cli.doctor import doctor
from fastcifar.cli.evaluate import evaluate
from fastcifar.cli.export import export
from fastcifar.cli.lr_find import lr_find
from fastcifar.cli.parity import parity
from fastcifar.cli.predict import predict
from fastcifar.cli.report import report
from fastcifar.cli.summary import summary
from fastcifar.cli.train import train
from fastcifar.cli.tune import tune
from fastcifar.errors import INTERRUPTED, FastcifarError

app = Typer(
    name="fastcifar",
    help="Fast, honest training of small image networks on CIFAR-10.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(train)
app.command()(evaluate)
app.command()(report)
app.command()(summary)
app.command()(check)
app.command()(predict)
app.command()(export)
app.command()(lr_find)
app.command()(parity)
app.command()(doctor)
app.command()(tune)
app.add_typer(data_app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fastcifar {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command; a failure that the user can mend is one line on stderr and its own exit code."""
    previous = signal.signal(signal.SIGINT, _exit_interrupted)
    try:
        app()
    except FastcifarError as error:
        print(f"fastcifar: {error.what} - {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    finally:
        signal.signal(signal.SIGINT, previous)


def _exit_interrupted(number: int, frame: object) -> None:
    """Ctrl-C outside training, which has a handler of its own that writes a checkpoint first."""
    print("fastcifar: interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)
