"""Files from the net: gone on with where they were cut, checked, and there only when they are whole."""

import hashlib
import http.client
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import IO
from urllib.request import Request

from ciess.errors import InputError
from ciess.progress import Progress, silent

_SECONDS_WITHOUT_A_BYTE = 30.0
_TRIES = 5
"""In a row that bring nothing new."""
_FIRST_WAIT = 1.0
"""Seconds before the second try; doubled for each one after it."""
_PIECE = 1 << 18
_MEGABYTE = 10**6
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which it is worth asking again."""


class _Cut(Exception):
    """The transfer broke off; what has come so far is kept."""


def download(
    url: str,
    path: Path,
    *,
    most_bytes: int,
    md5: str | None = None,
    phase: str = "download",
    progress: Progress = silent,
) -> None:
    """Download a file. It comes into a file beside `path` that ends in `.part`, and is renamed when it is whole.

    A broken transfer is tried again, longer and longer apart. With a checksum it goes on where it broke, in a later
    run too; without one it starts over, since nothing would show that the file has changed meanwhile. Proxies are taken
    from the usual environment variables (`https_proxy`, `no_proxy`, …).

    Args:
        url: of the file; redirects are followed, but never from https to http.
        path: where it is to lie.
        most_bytes: what it may take.
        md5: its checksum, in hexadecimal digits.
        phase: what progress is told.
        progress: told after each piece, in megabytes.

    Raises:
        InputError: the file cannot be had, is too large or is not what its checksum says.
    """
    part = path.with_name(f"{path.name}.part")
    if md5 is None:
        part.unlink(missing_ok=True)
    begun_before = part.exists()
    _transfer(url, part, most_bytes, md5 is not None, phase, progress)
    if md5 is not None and checksum(part, "md5") != md5:
        part.unlink()
        # What an earlier run has left may be a piece of another file.
        if begun_before:
            return download(url, path, most_bytes=most_bytes, md5=md5, phase=phase, progress=progress)
        raise InputError(f"{url} is not what its publisher's checksum says: try again later")
    os.replace(part, path)


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """A file's checksum in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def published_md5(url: str, path: Path) -> str:
    """The MD5 that a publisher offers in a small text file, which is downloaded to `path`.

    Raises:
        InputError: the file cannot be had or holds no such checksum.
    """
    download(url, path, most_bytes=10_000)
    found = re.search(rb"\b[0-9a-fA-F]{32}\b", path.read_bytes())
    if found is None:
        raise InputError(f"{url} holds no MD5 checksum: try again later")
    return found[0].decode().lower()


def _transfer(url: str, part: Path, most_bytes: int, resumed: bool, phase: str, progress: Progress) -> None:
    """Ask until all has come, or until asking brings nothing more."""
    furthest, failures = _size(part), 0
    while True:
        try:
            return _ask(url, part, _size(part) if resumed else 0, most_bytes, phase, progress)
        except _Cut as cut:
            further = _size(part) > furthest
            furthest, failures = max(furthest, _size(part)), 1 if further else failures + 1
            if failures == _TRIES:
                raise InputError(f"{url} cannot be downloaded ({cut}): check the connection and try again") from cut
            time.sleep(_FIRST_WAIT * 2 ** (failures - 1))


def _ask(url: str, part: Path, start: int, most_bytes: int, phase: str, progress: Progress) -> None:
    """Ask for what comes after the first `start` bytes, and write what the server gives.

    Raises:
        _Cut: the transfer broke off.
        InputError: asking again would not help.
    """
    with closing(_open(url, start)) as response:
        if response.status == 416:
            # Nothing lies beyond what is there: all of it is there, or it is of another file.
            if response.headers.get("Content-Range") == f"bytes */{start}":
                return
            part.unlink()
            raise _Cut("what had come of it does not belong to it")
        start, end = _extent(response, start)
        if end is not None:
            _refuse_too_much(url, end, end - start, part.parent, most_bytes)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            for piece in _pieces(response):
                file.write(piece)
                done = file.tell()
                _refuse_too_much(url, done, 0, part.parent, most_bytes)
                progress(phase, _megabytes(done), _megabytes(end or done), "MB")
    if end is not None and _size(part) < end:
        raise _Cut(f"it ended after {_size(part):,} of {end:,} bytes")


def _open(url: str, start: int) -> http.client.HTTPResponse | urllib.error.HTTPError:
    """The server's answer: the file, a part of it, or that nothing lies beyond `start` (416)."""
    headers = {"User-Agent": f"ciess/{version('ciess')}"} | ({"Range": f"bytes={start}-"} if start else {})
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        request = Request(url, headers=headers)
        response: http.client.HTTPResponse = opener.open(request, timeout=_SECONDS_WITHOUT_A_BYTE)
        return response
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:
            return error
        error.close()
        if error.code in _PASSING:
            raise _Cut(f"the server answers {error.code}, {error.reason}") from error
        raise InputError(
            f"{url} cannot be downloaded (the server answers {error.code}, {error.reason}): "
            "it may have moved: fetch it by hand and name its path"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise _failure(url, error) from error


def _failure(url: str, error: Exception) -> Exception:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return InputError(
            f"the certificate of {url} cannot be verified ({reason.verify_message}): "
            "name your certificates with SSL_CERT_FILE"
        )
    return _Cut(str(reason) or type(reason).__name__)


def _extent(response: http.client.HTTPResponse | urllib.error.HTTPError, start: int) -> tuple[int, int | None]:
    """Where the bytes of an answer begin, and how long the whole file is, where it says so."""
    if response.status != 206:
        # The whole file: a server may know no ranges.
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    if found is None or int(found[1]) != start:
        raise _Cut("the server sends another part than it was asked for")
    return start, int(found[2]) if found[2] != "*" else None


def _pieces(response: http.client.HTTPResponse | urllib.error.HTTPError) -> Iterator[bytes]:
    while True:
        try:
            piece = response.read1(_PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise _Cut(str(error) or type(error).__name__) from error
        if not piece:
            return
        yield piece


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never to where anybody on the way could change the file."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See `HTTPRedirectHandler`."""
        if req.type == "https" and not newurl.startswith("https:"):
            raise InputError(f"{req.full_url} leads to {newurl}, which is not encrypted: fetch it by hand")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refuse_too_much(url: str, size: int, to_come: int, folder: Path, most_bytes: int) -> None:
    if size > most_bytes:
        raise InputError(
            f"{url} is larger than {most_bytes / _MEGABYTE:,.0f} MB, more than it should be: fetch it by hand"
        )
    if to_come > (free := shutil.disk_usage(folder).free):
        raise InputError(
            f"{folder} has {free / _MEGABYTE:,.0f} MB left, {url} needs {to_come / _MEGABYTE:,.0f}: "
            "make room, or name another folder with CIESS_CACHE"
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _megabytes(count: int) -> int:
    return -(-count // _MEGABYTE)
