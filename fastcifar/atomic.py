"""Write a file or a folder so that it is there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastcifar.errors import UsageError


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` to write to; it takes the target's name at the end.

    The caller creates a file or a folder there. After a failure or Ctrl-C it is removed and an old
    target is untouched. A folder replaces only an empty folder.

    Raises:
        UsageError: the place cannot be written to.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    with write_errors_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            os.replace(partial, target)
        finally:
            if partial.is_dir():
                shutil.rmtree(partial)
            else:
                partial.unlink(missing_ok=True)


@contextmanager
def write_errors_named(target: Path) -> Iterator[None]:
    """Turn a failure to write (a full disk, missing rights) into a UsageError that names `target`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{target}: cannot be written, {reason}", "name another place") from None


def check_place(folder: Path, what: str) -> None:
    """Find out before the work that `what` ("a run folder") can be made in a folder, which need not exist yet.

    Raises:
        UsageError: it cannot; the hint names --output.
    """
    existing = next(place for place in [folder.absolute(), *folder.absolute().parents] if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"cannot make {what} in {folder}", "name another one with --output")
