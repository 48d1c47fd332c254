"""Running code that is the user's: its failures become one line, its prints no result."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from fastcifar.errors import UsageError


@contextlib.contextmanager
def others_code(complaint: str, file: Path | None = None) -> Iterator[None]:
    """Whatever is raised within becomes a `UsageError` that begins with the complaint; prints go to stderr.

    Args:
        file: where the line number is of interest.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        reason = next(iter(str(error).strip().splitlines()), "")
        line = _line_number(error, file)
        at = f" (line {line})" if line and f"line {line}" not in reason else ""
        raise UsageError(f"{complaint}{at}", f"{type(error).__name__}: {reason}".rstrip(": ")) from error


def _line_number(error: BaseException, file: Path | None) -> int | None:
    """The last line of the file that the error came through."""
    number, traceback = None, error.__traceback__
    while traceback is not None:
        if file is not None and Path(traceback.tb_frame.f_code.co_filename).resolve() == file.resolve():
            number = traceback.tb_lineno
        traceback = traceback.tb_next
    return number
