import hashlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from server import Answer, Server, chunked, ranged, running, stalled, status, whole

from ciess.data import download as module
from ciess.data.download import download, published_md5
from ciess.errors import InputError
from ciess.progress import silent

BODY = bytes(range(256)) * 2_000
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module, "_PIECE", 100)
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda seconds: None))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def fetched(server: Server, path: Path, *answers: Answer, md5: str | None = MD5) -> list[str | None]:
    """Download what a server answers; the ranges that it was asked for."""
    download(server.offer("/file", *answers), path, most_bytes=10**6, md5=md5)
    assert path.read_bytes() == BODY
    assert [each.name for each in path.parent.iterdir()] == ["file"], "nothing else is left"
    return [asked for _, asked in server.asked]


def test_a_whole_file(server: Server, path: Path) -> None:
    told: list[tuple[int, int]] = []
    url = server.offer("/file", whole(BODY))
    download(url, path, most_bytes=10**6, md5=MD5, progress=lambda _, done, total, note="": told.append((done, total)))
    assert path.read_bytes() == BODY
    assert told[-1] == (1, 1), "megabytes, rounded up"


def test_a_cut_transfer_goes_on_where_it_stopped(server: Server, path: Path) -> None:
    asked = fetched(server, path, ranged(BODY, upto=1_000), ranged(BODY, upto=200_000), ranged(BODY))
    assert asked == [None, "bytes=1000-", "bytes=200000-"]


def test_progress_that_was_made_is_kept_for_the_next_run(server: Server, path: Path) -> None:
    url = server.offer("/file", ranged(BODY, upto=1_000), status(403))
    with pytest.raises(InputError, match="answers 403"):
        download(url, path, most_bytes=10**6, md5=MD5)
    assert not path.exists()
    server.asked.clear()
    assert fetched(server, path, ranged(BODY)) == ["bytes=1000-"]


def test_without_a_checksum_it_starts_over(server: Server, path: Path) -> None:
    assert fetched(server, path, ranged(BODY, upto=1_000), ranged(BODY), md5=None) == [None, None]


def test_a_server_without_ranges_sends_it_all_again(server: Server, path: Path) -> None:
    assert fetched(server, path, ranged(BODY, upto=1_000), whole(BODY)) == [None, "bytes=1000-"]


def test_a_server_that_falls_silent(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS_WITHOUT_A_BYTE", 0.1)
    assert fetched(server, path, stalled(BODY, 500), ranged(BODY)) == [None, "bytes=500-"]


def test_chunks_that_end_too_soon(server: Server, path: Path) -> None:
    assert fetched(server, path, chunked(BODY[:700], ends=False), ranged(BODY)) == [None, "bytes=700-"]
    assert fetched(server, path, chunked(BODY, ends=True))


def test_a_busy_server_is_asked_again(server: Server, path: Path) -> None:
    assert len(fetched(server, path, status(503), status(429), whole(BODY))) == 3


def test_redirects_are_followed(server: Server, path: Path) -> None:
    server.offer("/elsewhere", whole(BODY))
    fetched(server, path, status(302, Location="/elsewhere"))


def test_a_whole_file_of_another_content_is_not_asked_for_again(server: Server, path: Path) -> None:
    with pytest.raises(InputError, match="is not what its publisher's checksum says"):
        download(server.offer("/file", whole(BODY[:-1])), path, most_bytes=10**6, md5=MD5)
    assert len(server.asked) == 1


def test_what_an_earlier_run_left_may_be_whole(server: Server, path: Path) -> None:
    path.with_name("file.part").write_bytes(BODY)
    assert fetched(server, path, ranged(BODY)) == [f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("left", [BODY + b"more", b"x" * 100], ids=["too long", "of another file"])
def test_what_an_earlier_run_left_may_be_wrong(server: Server, path: Path, left: bytes) -> None:
    path.with_name("file.part").write_bytes(left)
    assert fetched(server, path, ranged(BODY))[-1] is None, "started over"


def test_another_part_than_was_asked_for_is_refused(server: Server, path: Path) -> None:
    asked = fetched(server, path, ranged(BODY, upto=1_000), ranged(BODY, shift=5), ranged(BODY))
    assert asked == [None, "bytes=1000-", "bytes=1000-"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (whole(BODY[:-1] + b"x"), "is not what its publisher's checksum says"),
        (whole(BODY, length=len(BODY) - 9), "is not what its publisher's checksum says"),
        (whole(BODY, length=len(BODY) + 9), r"cannot be downloaded \(it ended too soon\): check"),
        (status(404), r"cannot be downloaded \(the server answers 404, Not Found\): it may have moved"),
        (status(302, Location="file:///etc/passwd"), "cannot be downloaded"),
        (status(500), r"cannot be downloaded \(the server answers 500, Internal Server Error\): check"),
        (whole(b"x", length=10**8), "is larger than 1 MB"),
        (chunked(b"x" * (10**6 + 1), ends=True), "is larger than 1 MB"),
    ],
    ids=["wrong bytes", "too short", "too long", "missing", "local file", "broken", "told too large", "too large"],
)
def test_what_cannot_be_had_leaves_no_file(server: Server, path: Path, answer: Answer, message: str) -> None:
    with pytest.raises(InputError, match=message):
        download(server.offer("/file", answer), path, most_bytes=10**6, md5=MD5)
    assert not path.exists()


def test_nobody_answers(server: Server, path: Path) -> None:
    with socket.socket() as taken:
        # Bound, but not listening: connections are refused.
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(InputError, match=r"cannot be downloaded .*: check the connection"):
            download(f"http://127.0.0.1:{taken.getsockname()[1]}/file", path, most_bytes=10**6)


def test_without_pooch_it_is_told_how_to_have_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(InputError, match=r"downloads need pooch: pip install 'ciess\[data\]'"):
        download("http://127.0.0.1/file", path, most_bytes=10**6)


def test_waits_grow(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=waits.append))
    with pytest.raises(InputError, match="answers 503"):
        download(server.offer("/file", status(503)), path, most_bytes=10**6)
    assert waits == [1, 2, 3, 4]


def test_a_proxy_is_asked(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    server.offer("http://publisher.example/file", whole(BODY))
    download("http://publisher.example/file", path, most_bytes=10**6, md5=MD5)
    assert path.read_bytes() == BODY


def test_encryption_is_never_given_up(path: Path) -> None:
    headers = {"Location": "http://publisher.example/file"}
    answer = SimpleNamespace(url="https://publisher.example/file", status_code=302, is_redirect=True, headers=headers)
    with pytest.raises(module._Final, match="not encrypted"):
        module._Transfer(path, 1, False, "", silent)._check(answer)


def test_a_full_disk_is_seen_beforehand(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000})())
    with pytest.raises(InputError, match=r"has 0 MB left, .* needs 1: make room"):
        download(server.offer("/file", whole(BODY)), path, most_bytes=10**6)


@pytest.mark.parametrize("text", ["{}  file\n", "MD5 (file) = {}\n", "{}"])
def test_published_checksums(server: Server, path: Path, text: str) -> None:
    assert published_md5(server.offer("/file.md5", whole(text.format(MD5.upper()).encode())), path) == MD5


def test_a_page_is_no_checksum(server: Server, path: Path) -> None:
    with pytest.raises(InputError, match="holds no MD5 checksum"):
        published_md5(server.offer("/file.md5", whole(b"<html>moved</html>")), path)
