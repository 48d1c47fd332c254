"""Failures that the user can mend: each prints as one line and has its own exit code."""


class FastcifarError(Exception):
    """A failure with a way out.

    Args:
        what: what went wrong and where (names the file, flag or key).
        hint: what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"{what} ({hint})")
        self.what = what
        self.hint = hint


class UsageError(FastcifarError):
    """A flag, recipe, key or value that cannot be used."""

    exit_code = 2


class DataError(FastcifarError):
    """Data or a run folder that is missing, damaged or foreign."""

    exit_code = 3


class DeviceError(FastcifarError):
    """A device, backend or precision that was asked for and cannot be had."""

    exit_code = 4


class TargetMissedError(FastcifarError):
    """Training ended below the accuracy that was asked for."""

    exit_code = 5


class CheckFailedError(FastcifarError):
    """A check (constraint, parity, regression, divergence) did not hold."""

    exit_code = 6


INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells report SIGINT; once training had begun, a checkpoint has been written."""
