"""A server on this machine that misbehaves as it is told."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


class Server(ThreadingHTTPServer):
    """Gives the answers of a path one after the other, the last one again and again.

    Attributes:
        answers: by path.
        asked: path and Range header of each request, in order.
        over: set when the test is over; answers that wait, wait for it.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def offer(self, path: str, *answers: Answer) -> str:
        """Answer so at a path; its URL."""
        self.answers[path] = list(answers)
        return f"{self.url}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Range"]))
        answers = self.server.answers.get(self.path, [status(404)])
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, format: str, *args: object) -> None:
        """Tests are silent."""

    def begin(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


@contextmanager
def running() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def whole(body: bytes, length: int | None = None) -> Answer:
    """All of it, whatever range is asked for; `length` is what the header says."""

    def answer(handler: Handler) -> None:
        handler.begin(200, Content_Length=len(body) if length is None else length)
        handler.wfile.write(body)

    return answer


def ranged(body: bytes, upto: int | None = None, shift: int = 0) -> Answer:
    """What is asked for, but the connection ends at byte `upto`; the part begins `shift` bytes too late."""

    def answer(handler: Handler) -> None:
        start = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            handler.begin(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
            return
        headers = {"Content_Length": len(body) - start}
        if start:
            headers["Content_Range"] = f"bytes {start + shift}-{len(body) - 1}/{len(body)}"
        handler.begin(206 if start else 200, **headers)
        handler.wfile.write(body[start:upto])

    return answer


def chunked(body: bytes, ends: bool) -> Answer:
    """In chunks, without a length; cut before the last chunk unless it `ends`."""

    def answer(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.begin(200, Transfer_Encoding="chunked", Connection="close")
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if ends else b""))

    return answer


def stalled(body: bytes, upto: int) -> Answer:
    """A part of it, and then nothing more."""

    def answer(handler: Handler) -> None:
        handler.begin(200, Content_Length=len(body))
        handler.wfile.write(body[:upto])
        handler.wfile.flush()
        handler.server.over.wait()

    return answer


def status(code: int, **headers: object) -> Answer:
    """No file."""
    return lambda handler: handler.begin(code, Content_Length=0, **headers)
