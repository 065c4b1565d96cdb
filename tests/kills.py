"""A campaign of kills: commands that are killed at random moments, and started again until they end.

`python tests/kills.py [KILLS [SEED]]` starts each command once as a whole, then kills it again and again, by SIGKILL,
SIGTERM and SIGINT in turn, starts it anew with the same words, and compares what it leaves with the whole run's, but
for what tells of time. `make campaign` runs it; what it came to stands in benchmarks/results/kills.md.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

import ciess

ROOT = Path(__file__).parents[1]
SIGNALS = {signal.SIGKILL: (-9,), signal.SIGTERM: (143, -15), signal.SIGINT: (130, -2)}
"""What stops a command, and the exit code that it then ends with; the second while Python itself is starting."""
STARTING = 2.0
"""Seconds until most commands are at work: kills come after half of that at the earliest."""
CIESS = [sys.executable, "-m", "ciess"]
FAST = ["--backbone", "mf", "--dim", "8", "--tune", "off"]
PIECE, PIECES = 20_000, 200

COMMANDS = {
    "search": [*CIESS, "search", "data.csv", *FAST, "--method", "equal", "--budgets", "50%", "--out", "out"],
    "search, CIESS": [
        *CIESS, "search", "data.csv", *FAST, "--method", "ciess", "--episodes", "1", "--budgets", "50%", "--out", "out",
    ],
    "search, tuned": [
        *CIESS, "search", "data.csv", "--backbone", "als", "--dim", "8", "--budgets", "50%", "--out", "out",
    ],
    "compress": [
        *CIESS, "compress", "--users", "users.npy", "--items", "items.npy", "--interactions", "data.csv",
        "--precision", "int8", "--budgets", "10%", "--out", "out",
    ],
    "compare": [
        *CIESS, "compare", "data.csv", *FAST, "--methods", "pep:steps=60", "--budgets", "50%",
        "--seeds", "0", "--out", "out",
    ],
    "stream": [
        *(*CIESS, "stream", "data.csv", "--backbone", "als", "--dim", "8", "--budget", "50%", "--segments", "2"),
        *("--methods", "marginal", "--out", "out"),
    ],
    "distribute": [
        *(*CIESS, "distribute", "data.csv", "--backbone", "mf", "--dim", "8", "--budget", "50%", "--out", "out"),
    ],
    "data fetch": [sys.executable, "fetch.py"],
}  # fmt: skip
BENCHMARKS = {
    "reproduce": [
        sys.executable, str(ROOT / "benchmarks" / "reproduce.py"), "data.csv", "--name", "small", "--seeds", "0",
        "--backbones", "als", "--budgets", "50%", "--out", "out",
    ],
}  # fmt: skip
FETCH = """
import sys
from ciess.data import catalogue
from ciess.cli import main
base = {base!r}
names = ("train.txt", "test.txt")
parts = tuple(catalogue.Source(f"{{base}}/{{name}}", 5.0, md5_beside=name == "train.txt") for name in names)
catalogue.CATALOGUE["small"] = catalogue.NamedSet("lines", 1, 1, 1, parts, "none", base)
main(["data", "fetch", "small", "--accept-terms"])
"""
TIMES = {"seconds", "trials", "tuning", "command", "call", "fetched"}


class Slow(SimpleHTTPRequestHandler):
    """Serves files with pauses, so that a kill can come in between."""

    def log_message(self, *_: Any) -> None: ...

    def copyfile(self, source: Any, outputfile: Any) -> None:
        try:
            while piece := source.read(PIECE):
                outputfile.write(piece)
                time.sleep(0.02)
        except OSError:
            pass


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(each) for key, each in value.items() if key not in TIMES}
    return [without_times(each) for each in value] if isinstance(value, list) else value


def left(folder: Path) -> dict[str, Any]:
    """What a command has left: files by name; of documents, all but what tells of time. Reports show seconds."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and "cells/" not in name and path.suffix not in (".html", ".svg", ".md", ".tex", ".lock"):
            content = path.read_bytes()
            found[name] = without_times(json.loads(content)) if path.suffix == ".json" else content
    return found


def prepared(folder: Path) -> None:
    """Data, and tables, for all commands."""
    data = ciess.synthetic(users=100, items=60, mean_count=12).interactions
    pairs = zip(data.users.tolist(), data.items.tolist(), strict=True)
    lines = (f"{user},{item},{(31 * user + 17 * item) % 101}\n" for user, item in pairs)
    (folder / "data.csv").write_text("user,item,time\n" + "".join(lines))
    rng = np.random.default_rng(0)
    for name, rows in (("users", data.n_users), ("items", data.n_items)):
        np.save(folder / f"{name}.npy", rng.normal(size=(rows, 40)).astype(np.float32))
    served = folder / "served"
    served.mkdir()
    lines = "".join(f"{user} {user % 97}\n" for user in range(PIECES * PIECE // 12))
    (served / "train.txt").write_text(lines)
    (served / "test.txt").write_text(lines[: len(lines) // 2])
    (served / "train.txt.md5").write_text(hashlib.md5(lines.encode()).hexdigest() + "  train.txt\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=str(served)))
    Thread(target=server.serve_forever, daemon=True).start()
    (folder / "fetch.py").write_text(FETCH.format(base=f"http://127.0.0.1:{server.server_port}"))


def started(command: list[str], folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}", "CIESS_CACHE": str(folder / "out")}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def killed(command: list[str], folder: Path, kills: int, usual: float, rng: random.Random) -> tuple[int, list[str]]:
    """Kill a command up to so many times, then let it end: how often it was killed, and what was wrong."""
    done, wrong = 0, list[str]()
    while True:
        process, by = started(command, folder), rng.choice([*SIGNALS])
        try:
            process.wait(rng.uniform(STARTING / 2, max(usual, STARTING)) if done < kills else None)
        except subprocess.TimeoutExpired:
            process.send_signal(by)
        told = process.communicate()[1]
        if process.returncode == 0:
            return done, wrong
        done += 1
        if process.returncode not in SIGNALS[by] or ("Traceback" in told and command[1:3] == CIESS[1:]):
            wrong.append(f"{by.name}: code {process.returncode}: {told[-300:]}")
        if done > 3 * kills:
            return done, [*wrong, "it does not end"]


def main() -> None:
    """All commands in turn until there were so many kills."""
    given = [int(each) for each in sys.argv[1:]]
    kills, seed = (*given, *(60, 0)[len(given) :])
    rng, commands = random.Random(seed), COMMANDS | BENCHMARKS
    rows, failed = list[str](), False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepared(folder)
        for at, (what, command) in enumerate(commands.items()):
            begun = time.perf_counter()
            process = started(command, folder)
            told = process.communicate()[1]
            if process.returncode:
                sys.exit(f"{what} fails by itself: {told}")
            usual, whole = time.perf_counter() - begun, left(folder / "out")
            count, resumed, wrong = 0, 0, list[str]()
            wanted = kills // len(commands) + (at < kills % len(commands))
            while count < wanted and not wrong:
                shutil.rmtree(folder / "out")
                shutil.rmtree(folder / "runs", ignore_errors=True)
                done, wrong = killed(command, folder, min(4, wanted - count), usual, rng)
                count += done
                if not wrong and (found := left(folder / "out")) != whole:
                    differing = [each for each in {*whole, *found} if whole.get(each) != found.get(each)]
                    wrong = [f"other bits in {', '.join(sorted(differing))}"]
                resumed += 0 if wrong else done
            shutil.rmtree(folder / "out", ignore_errors=True)
            shutil.rmtree(folder / "runs", ignore_errors=True)
            rows.append(f"| {what} | {usual:.0f} | {count} | {resumed} | {'; '.join(wrong)} |")
            failed = failed or bool(wrong)
            print(rows[-1], flush=True)
    print(
        "\n".join(
            [
                "# Kills",
                "",
                f"`python tests/kills.py {kills} {seed}`: commands killed at random moments by SIGKILL, SIGTERM and",
                "SIGINT, and started again until they end; what they leave is compared, bit by bit, with what a whole",
                "run leaves.",
                "",
                "| command | seconds as a whole | kills | of these resumed to the same bits | what was wrong |",
                "|---|---|---|---|---|",
                *rows,
            ]
        )
    )
    sys.exit(failed)


if __name__ == "__main__":
    main()
