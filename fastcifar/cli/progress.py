"""What a run shows: a bar and a table on a terminal, a plain log elsewhere; always on stderr."""

import sys

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastcifar.training.observer import EpochRecord, Observer, RunPlan

HEADINGS = ("epoch", "pixels", "loss", "train %", "val %", "lr", "images/s", "seconds")
ROW = "{:>9} {:>7} {:>8} {:>8} {:>9} {:>8} {:>9} {:>8}"


def make_observer(quiet: bool, as_json: bool) -> Observer:
    """The display that suits the terminal: rich where stderr is one, plain lines otherwise."""
    if quiet:
        return WarningsOnly()
    if sys.stderr.isatty() and not as_json:
        return TerminalDisplay()
    return PlainLog()


class WarningsOnly(Observer):
    """Keeps silent but for what the user asked for and does not get."""

    def warning(self, text: str) -> None:
        print(f"warning: {text}", file=sys.stderr, flush=True)


class PlainLog(WarningsOnly):
    """A line for each fact and each epoch; nothing is redrawn."""

    def message(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def run_started(self, plan: RunPlan) -> None:
        self.epochs = plan.epochs
        self.message(plan.title)
        self.message(ROW.format(*headings(plan)))

    def epoch_done(self, record: EpochRecord) -> None:
        self.message(format_row(record, self.epochs))


class TerminalDisplay(Observer):
    """A row an epoch and, below it, a bar with the loss and the speed of the epoch under way."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.progress: Progress | None = None

    def message(self, text: str) -> None:
        self.console.print(f"[dim]{escape(text)}[/dim]")

    def warning(self, text: str) -> None:
        self.console.print(f"[yellow]warning:[/yellow] {escape(text)}")

    def run_started(self, plan: RunPlan) -> None:
        self.epochs, self.steps_per_epoch = plan.epochs, plan.steps_per_epoch
        self.console.print(f"[bold]{escape(plan.title)}[/bold]")
        self.console.print(f"[bold]{ROW.format(*headings(plan))}[/bold]")
        self.progress = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
        )
        total = plan.epochs * plan.steps_per_epoch
        done = (plan.first_epoch - 1) * plan.steps_per_epoch
        self.task = self.progress.add_task("", total=total, completed=done)
        self.progress.start()

    def steps_done(self, epoch: int, step: int, loss: float, images_per_second: float) -> None:
        if self.progress is not None:
            self.progress.update(
                self.task,
                completed=(epoch - 1) * self.steps_per_epoch + step,
                description=f"loss {loss:.3f}, {images_per_second:,.0f} images/s",
            )

    def epoch_done(self, record: EpochRecord) -> None:
        self.console.print(format_row(record, self.epochs))
        if self.progress is not None:
            self.progress.update(self.task, completed=record.epoch * self.steps_per_epoch)

    def run_ended(self) -> None:
        if self.progress is not None:
            self.progress.stop()
            self.progress = None


def headings(plan: RunPlan) -> tuple[str, ...]:
    """Column titles; the evaluated split is called by its name."""
    return tuple(f"{plan.evaluated_on} %" if title == "val %" else title for title in HEADINGS)


def format_row(record: EpochRecord, epochs: int) -> str:
    """An epoch as a line under `HEADINGS`."""
    return ROW.format(
        f"{record.epoch}/{epochs}",
        record.image_size,
        f"{record.train_loss:.4f}",
        f"{record.train_accuracy:.2f}",
        "-" if record.val_accuracy is None else f"{record.val_accuracy:.2f}",
        f"{record.learning_rate:.4f}",
        f"{record.images_per_second:,.0f}",
        f"{record.seconds:.1f}",
    )
