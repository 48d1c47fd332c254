"""What a run shows, by the terminal it shows it on."""

import io
import sys

import pytest
from rich.console import Console

from fastcifar.cli.progress import PlainLog, TerminalDisplay, WarningsOnly, make_observer
from fastcifar.training.observer import EpochRecord, Observer, RunPlan

PLAN = RunPlan(
    "net on shapes10 (not CIFAR-10), seed 0", epochs=12, first_epoch=1, steps_per_epoch=40, evaluated_on="holdout"
)


def record(epoch: int, val_accuracy: float | None) -> EpochRecord:
    val_loss = None if val_accuracy is None else 1.0
    return EpochRecord(epoch, 24, 1.2345, 61.5, val_loss, val_accuracy, 0.123, 98765.4, 3.21, 30.0)


def show(observer: Observer) -> None:
    observer.message("device: cpu [because]")
    observer.warning("amp was asked for")
    observer.run_started(PLAN)
    observer.steps_done(1, 20, 1.5, 1234.5)
    observer.epoch_done(record(1, None))
    observer.epoch_done(record(12, 87.654))
    observer.run_ended()


@pytest.mark.parametrize(
    ("quiet", "as_json", "terminal", "expected"),
    [
        (True, False, True, WarningsOnly),
        (False, False, True, TerminalDisplay),
        (False, True, True, PlainLog),
        (False, False, False, PlainLog),
    ],
)
def test_the_display_suits_the_terminal(
    quiet: bool, as_json: bool, terminal: bool, expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert type(make_observer(quiet, as_json)) is expected


def test_the_plain_log_is_a_line_an_epoch_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    show(PlainLog())
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "device: cpu [because]",
        "warning: amp was asked for",
        "net on shapes10 (not CIFAR-10), seed 0",
        "    epoch  pixels     loss  train % holdout %       lr  images/s  seconds",
        "     1/12      24   1.2345    61.50         -   0.1230    98,765      3.2",
        "    12/12      24   1.2345    61.50     87.65   0.1230    98,765      3.2",
    ]


def test_quiet_says_only_what_was_asked_for_and_is_not_had(capsys: pytest.CaptureFixture[str]) -> None:
    show(WarningsOnly())
    assert capsys.readouterr() == ("", "warning: amp was asked for\n")


def test_the_terminal_shows_the_same_rows_and_a_bar() -> None:
    display = TerminalDisplay()
    screen = io.StringIO()
    display.console = Console(file=screen, force_terminal=True, width=100, highlight=False, color_system=None)
    show(display)
    text = screen.getvalue()
    assert "device: cpu [because]" in text
    assert "     1/12      24   1.2345    61.50         -   0.1230    98,765      3.2" in text
    assert "loss 1.500, 1,234 images/s" in text
    assert "/480" in text
    assert display.progress is None
