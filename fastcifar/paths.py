"""Where data, caches and runs live: flags first, then the environment, then XDG folders."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Folder for downloads and generated data: FASTCIFAR_CACHE_DIR, else XDG_CACHE_HOME/fastcifar."""
    if override := os.environ.get("FASTCIFAR_CACHE_DIR"):
        return Path(override).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fastcifar"


def compiled_code_dirs() -> dict[str, Path]:
    """Folders for what torch.compile and Triton compile, by the variables that name them to those."""
    return {"TORCHINDUCTOR_CACHE_DIR": cache_dir() / "inductor", "TRITON_CACHE_DIR": cache_dir() / "triton"}


def data_dir_candidates(flag: str | None) -> list[tuple[str, Path]]:
    """Folders to search for CIFAR-10, as (where the choice came from, folder), best first.

    A folder that was named by flag or environment is the only candidate: falling back to another one
    behind the user's back would train on the wrong data.
    """
    if flag:
        return [("--data-dir", Path(flag).expanduser())]
    if named := os.environ.get("FASTCIFAR_DATA_DIR"):
        return [("FASTCIFAR_DATA_DIR", Path(named).expanduser())]
    return [("./data", Path("data")), ("cache", cache_dir())]


def named_data_dir(configured: str) -> str | None:
    """`data.dir` as an explicit choice; None where it is empty or only repeats FASTCIFAR_DATA_DIR.

    The search reads that variable itself, ignores it for built-in data, and blames it by its name.
    """
    return None if configured in ("", os.environ.get("FASTCIFAR_DATA_DIR")) else configured


def runs_dir() -> Path:
    """Folder that receives run folders: FASTCIFAR_RUNS_DIR, else ./runs."""
    return Path(os.environ.get("FASTCIFAR_RUNS_DIR") or "runs").expanduser()
