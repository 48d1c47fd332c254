"""Downloads from a server on this machine: mirrors in turn, checksums, nothing half-written."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fake_cifar10 import assert_same, binary_files, fake_dataset, python_files, shrink, tarball

from fastcifar.dataset import download
from fastcifar.dataset.download import MIRRORS, Mirror, download_cifar10, fetch_tarball
from fastcifar.dataset.load import load_dataset
from fastcifar.errors import DataError, UsageError


class Server:
    """Serves the bytes in `files`; remembers what was asked for."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.truncated: set[str] = set()
        self.truncated_once: set[str] = set()
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                content = outer.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                short = self.path in outer.truncated | outer.truncated_once
                outer.truncated_once.discard(self.path)
                self.wfile.write(content[:100] if short else content)

            def log_message(self, format, *args):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def mirror(self, path: str, content: bytes, file_name: str = "cifar-10-python.tar.gz") -> Mirror:
        """A mirror that claims to have `content` at `path`."""
        return Mirror(self.url + path, file_name, hashlib.sha256(content).hexdigest())

    def stop(self):
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    yield server
    server.stop()


CONTENT = bytes(range(256)) * 40


def test_the_first_mirror_that_works_is_used(server, tmp_path):
    server.files = {"/wrong": CONTENT[::-1], "/short": CONTENT, "/good": CONTENT, "/unused": CONTENT}
    server.truncated = {"/short"}
    paths = ("/missing", "/wrong", "/short", "/good", "/unused")
    file = fetch_tarball(tmp_path, mirrors=tuple(server.mirror(path, CONTENT) for path in paths))
    assert file.read_bytes() == CONTENT
    assert server.requests == ["/missing", "/wrong", "/short", "/good"]
    assert list(tmp_path.iterdir()) == [file]


def test_all_failures_are_named_and_nothing_is_left(server, tmp_path):
    server.files = {"/wrong": CONTENT[::-1], "/short": CONTENT}
    server.truncated = {"/short"}
    mirrors = tuple(server.mirror(path, CONTENT) for path in ("/missing", "/wrong", "/short"))
    closed = Mirror("http://127.0.0.1:9/x", "cifar-10-python.tar.gz", "0" * 64)
    with pytest.raises(DataError) as failure:
        fetch_tarball(tmp_path, mirrors=(*mirrors, closed))
    message = str(failure.value)
    for words in ("/missing: HTTP status 404", "/wrong: wrong checksum", "/short: broke off", ":9/x: no connection"):
        assert words in message
    assert "\n" not in message
    assert "--data-dir" in message
    assert "--dataset shapes10" in message
    assert list(tmp_path.iterdir()) == []


def test_a_broken_download_is_tried_again(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "RETRIES", 1)
    server.files = {"/x": CONTENT}
    server.truncated_once = {"/x"}
    fetch_tarball(tmp_path, mirrors=(server.mirror("/x", CONTENT),))
    assert server.requests == ["/x", "/x"]


def test_what_is_there_is_not_fetched_again(server, tmp_path):
    server.files = {"/x": CONTENT}
    mirrors = (server.mirror("/x", CONTENT),)
    fetch_tarball(tmp_path, mirrors=mirrors)
    fetch_tarball(tmp_path, mirrors=mirrors)
    fetch_tarball(tmp_path, offline=True, mirrors=mirrors)
    assert server.requests == ["/x"]


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    server.files = {"/x": CONTENT}
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"old and broken")
    assert fetch_tarball(tmp_path, mirrors=(server.mirror("/x", CONTENT),)).read_bytes() == CONTENT


def test_offline_never_asks(server, tmp_path):
    server.files = {"/x": CONTENT}
    with pytest.raises(DataError, match=r"--offline: .* holds no verified copy"):
        fetch_tarball(tmp_path, offline=True, mirrors=(server.mirror("/x", CONTENT),))
    assert server.requests == []


def test_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="file/sub: cannot be made"):
        fetch_tarball(tmp_path / "file" / "sub", mirrors=(server.mirror("/x", CONTENT),))
    assert server.requests == []


@pytest.mark.parametrize("files", [binary_files, python_files])
def test_downloaded_data_is_found_without_pickle_and_without_network(server, tmp_path, monkeypatch, files):
    shrink(monkeypatch)
    monkeypatch.setenv("FASTCIFAR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTCIFAR_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    dataset = fake_dataset()
    server.files = {"/x": tarball(files(dataset))}
    mirrors = (server.mirror("/x", server.files["/x"]),)
    path = download_cifar10(mirrors=mirrors)
    found = load_dataset("cifar10", offline=True)
    assert_same(found, dataset)
    assert found.source == f"npz, {path}"
    path.write_bytes(b"damaged since")
    download_cifar10(mirrors=mirrors, offline=True)
    assert_same(load_dataset("cifar10"), dataset)
    assert server.requests == ["/x"]


def test_mirrors_agree():
    """Copies of a file are byte-identical, so they have one checksum between them."""
    claimed = {(mirror.file_name, mirror.sha256) for mirror in MIRRORS}
    assert len(claimed) == len({name for name, _ in claimed}) == 2
    assert all(mirror.url.startswith("https://") and mirror.url.endswith(mirror.file_name) for mirror in MIRRORS)
