"""Files from the net, by pooch: gone on with where they were cut, checked, and there only when they are whole."""

import hashlib
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from ciess.errors import InputError
from ciess.progress import Progress, silent

_SECONDS_WITHOUT_A_BYTE = 30.0
_TRIES = 5
_PIECE = 1 << 18
_MEGABYTE = 10**6
_PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Answers after which it is worth asking again."""


class _Final(Exception):
    """What asking again would not help; pooch would ask again after a ValueError, which an InputError is."""


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
        InputError: pooch is not installed, or the file cannot be had, is too large or is not what its checksum says.
    """
    try:
        import pooch
        from requests.exceptions import RequestException, SSLError
    except ImportError as error:
        raise InputError("downloads need pooch: pip install 'ciess[data]'") from error
    files = pooch.create(
        path.parent,
        base_url="",
        registry={path.name: None if md5 is None else f"md5:{md5}"},
        urls={path.name: url},
        retry_if_failed=_TRIES - 1,
    )
    pooch.get_logger().setLevel("WARNING")
    try:
        files.fetch(path.name, downloader=_Transfer(path, most_bytes, md5 is not None, phase, progress))
    except _Final as error:
        raise InputError(str(error)) from error
    except SSLError as error:
        raise InputError(
            f"the certificate of {url} cannot be verified: name your certificates with SSL_CERT_FILE"
        ) from error
    except RequestException as error:
        raise InputError(
            f"{url} cannot be downloaded ({_reason(error)}): check the connection and try again"
        ) from error


def checksum(path: Path) -> str:
    """A file's SHA-256 in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def published_md5(url: str, path: Path) -> str:
    """The MD5 that a publisher offers in a small text file, which is downloaded to `path`.

    Raises:
        InputError: the file cannot be had or holds no such checksum.
    """
    # One from an earlier run may be of a file that was replaced since.
    path.unlink(missing_ok=True)
    download(url, path, most_bytes=10_000)
    found = re.search(rb"\b[0-9a-fA-F]{32}\b", path.read_bytes())
    if found is None:
        raise InputError(f"{url} holds no MD5 checksum: try again later")
    return found[0].decode().lower()


class _Transfer:
    """Asks once for a file, or for what is missing of it; pooch calls this until it brings the whole file.

    This is also the progress bar that pooch tells of each piece.
    """

    def __init__(self, path: Path, most_bytes: int, resumed: bool, phase: str, progress: Progress) -> None:
        self.total = 0
        self._part = path.with_name(f"{path.name}.part")
        self._most_bytes, self._resumed, self._phase, self._progress = most_bytes, resumed, phase, progress
        self._start, self._of_earlier_run, self._fresh_came = 0, True, False
        self._file: IO[bytes]

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        from pooch import HTTPDownloader
        from requests.exceptions import HTTPError

        if self._fresh_came:
            raise _Final(f"{url} is not what its publisher's checksum says: try again later")
        self._start = begun = self._part.stat().st_size if self._resumed and self._part.exists() else 0
        # What an earlier run has left may be a piece of another file; what this one brings is not asked for twice.
        self._of_earlier_run = self._of_earlier_run and begun > 0
        headers = {"User-Agent": f"ciess/{version('ciess')}", "Accept-Encoding": "identity"}
        if self._start:
            headers["Range"] = f"bytes={self._start}-"
        ask = HTTPDownloader(
            progressbar=self,
            chunk_size=_PIECE,
            timeout=_SECONDS_WITHOUT_A_BYTE,
            headers=headers,
            hooks={"response": self._check},
            verify=os.environ.get("SSL_CERT_FILE") or True,
        )
        try:
            with self._part.open("ab" if self._start else "wb") as self._file:
                ask(url, self._file, None)
        except HTTPError as error:
            if error.response is None or error.response.status_code != 416:
                raise
            # Nothing lies beyond what is there: all of it is there, or it is of another file.
            if error.response.headers.get("Content-Range") != f"bytes */{self._start}":
                self._part.unlink()
                raise
        os.replace(self._part, output_file)
        self._fresh_came = not self._of_earlier_run

    def _check(self, response: Any, **_: Any) -> None:
        """Look at an answer before anything of it is kept."""
        from requests.exceptions import RequestException

        url, code = response.url, response.status_code
        if response.is_redirect:
            to = response.headers["Location"]
            if url.startswith("https:") and to.startswith("http:"):
                raise _Final(f"{url} leads to {to}, which is not encrypted: fetch it by hand")
        elif code >= 400 and code not in (*_PASSING, 416):
            raise _Final(
                f"{url} cannot be downloaded (the server answers {code}, {response.reason}): "
                "it may have moved: fetch it by hand and name its path"
            )
        elif code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {self._start}-"):
            raise RequestException("the server sends another part than it was asked for")
        elif code == 200:
            # The whole file: a server may know no ranges.
            self._file.truncate(0)
            self._start = 0
        if code in (200, 206):
            self._refuse_too_much(url, self._start, int(response.headers.get("Content-Length", 0)))

    def _refuse_too_much(self, url: str, there: int, to_come: int) -> None:
        if there + to_come > self._most_bytes:
            raise _Final(
                f"{url} is larger than {self._most_bytes / _MEGABYTE:,.0f} MB, more than it should be: fetch it by hand"
            )
        if to_come > (free := shutil.disk_usage(self._part.parent).free):
            raise _Final(
                f"{self._part.parent} has {free / _MEGABYTE:,.0f} MB left, {url} needs {to_come / _MEGABYTE:,.0f}: "
                "make room, or name another folder with CIESS_CACHE"
            )

    def update(self, _: int) -> None:
        """A piece has come."""
        done = self._file.tell()
        self._refuse_too_much(self._part.stem, done, 0)
        self._progress(self._phase, _megabytes(done), _megabytes(max(self._start + self.total, done)), "MB")

    def reset(self) -> None:
        """Nothing: `update` counts by the file."""

    def close(self) -> None:
        """Nothing: the line of progress is not of one file."""


def _reason(error: Any) -> str:
    """Why a transfer failed, in short: requests tells of its pools and retries."""
    if error.response is not None:
        return f"the server answers {error.response.status_code}, {error.response.reason}"
    names = {"ConnectionError": "no connection", "ChunkedEncodingError": "it ended too soon"}
    return names.get(type(error).__name__) or ("no answer" if "Timeout" in type(error).__name__ else str(error))


def _megabytes(count: int) -> int:
    return -(-count // _MEGABYTE)
