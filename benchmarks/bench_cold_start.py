"""How long a user waits for the command, and for the first steps: processes from their start to their end."""

import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from measure import Measure, checks_itself
from record import Work
from short_trainings import KINDS, PEER, short_training

BASELINE, DOCTOR = "import torch", "fastcifar doctor"
COMMANDS = {
    BASELINE: (["-c", "import torch; print(torch.__version__)"], "."),
    "fastcifar --help": (["-m", "fastcifar", "--help"], "train"),
    DOCTOR: (["-m", "fastcifar", "doctor"], "torch"),
}
"""What Python is started with, and a word that the process must print."""
IMAGES, ROUNDS = 50_000, 3


def bench_cold_start(measure: Measure, short: bool) -> None:
    subjects = {name: process(*command) for name, command in COMMANDS.items()}
    left_out = {}
    if short:
        del subjects[DOCTOR]
        left_out[DOCTOR] = "--short"
    measure(
        "cold start",
        subjects,
        baseline=BASELINE,
        check=checks_itself,
        work=Work("s"),
        rounds=ROUNDS,
        left_out=left_out,
    )


def bench_first_steps(measure: Measure, short: bool) -> None:
    """Five steps of the speed network, batch 256, with all that must be imported and begun before them."""
    if short:
        pytest.skip("--short")
    measure(
        f"from the process' start to its fifth step: {IMAGES:,} images",
        {name: lambda kind=kind: short_training(kind, IMAGES)["seconds"] for name, kind in KINDS.items()},
        baseline=PEER,
        check=checks_itself,
        work=Work("s"),
        rounds=ROUNDS,
    )


def process(arguments: list[str], word: str) -> Callable[[], float]:
    """Runs Python with these arguments, sees that it ends well and prints the word, and returns its seconds."""

    def run() -> float:
        start = time.perf_counter()
        printed = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout
        assert word in printed, f"{arguments} printed {printed!r}"
        return time.perf_counter() - start

    return run
