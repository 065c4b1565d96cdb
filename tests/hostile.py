"""Model folders from somebody who means harm, thousands of them: `make campaign`.

Each is a valid folder with a change or two, drawn by its number, and all checksums made anew. What is right: it is
refused in one sentence, or it recommends items of its own; in bounded time and memory, and no file outside is opened.
Arguments: how many, and the number of the first. What came of thousands is kept in `benchmarks/results/hostile.md`.
"""

import collections
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hostile_changes import made, valid_models

import ciess
from ciess.errors import InputError

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "hostile.md"
SECONDS, BYTES = 20, 2 << 30
"""What one folder may take: time, and memory beyond what Python and PyTorch take."""
MANY = 4000


class Opens:
    """Remembers files that are opened and are neither of a folder nor of Python."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.foreign = list[str]()
        # Resolved as what is opened is: an environment may be a link.
        python = {os.path.realpath(each) for each in (sys.prefix, sys.base_prefix, Path(ciess.__file__).parents[1])}
        self.own = (*python, "/proc/", "/sys/", "/usr/")
        sys.addaudithook(self._see)

    def _see(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None or event != "open" or not isinstance(args[0], str | os.PathLike | bytes):
            return
        path = os.path.realpath(os.fsdecode(args[0]))
        # Folders above are opened to lock them.
        if not path.startswith((str(self.folder), *self.own)) and not os.path.isdir(path):
            self.foreign.append(path)


def judged(path: Path, opens: Opens, again: Path) -> str:
    """What came of a folder: `refused`, `accepted`, or what is wrong."""
    opens.folder, opens.foreign = path, []
    try:
        model = ciess.load(path)
        users = [*model.user_ids[:3].tolist(), "nobody"]
        k = min(5, len(model.items))
        items, scores = model.recommend(users, k=k)
        model.score(users[0], model.item_ids[:2])
        opens.folder = None
        kept = ciess.load(model.save(again), verify=True).recommend(users, k=k)
    except InputError as error:
        told = str(error)
        if not told or len(told) > 600 or not told.isprintable():
            return f"no sentence: {told[:200]!r}"
        return f"foreign: {opens.foreign}" if opens.foreign else "refused"
    finally:
        opens.folder = None
    known = {*model.item_ids.tolist(), None}
    rows = [[each for each in row if each is not None] for row in items.tolist()]
    if not all(len({*row}) == len(row) and {*row} <= known for row in rows) or items.shape != (4, k) != scores.shape:
        return f"items out of range: {items.tolist()}"
    if kept[0].tolist() != items.tolist():
        return "another answer after it was saved"
    return f"foreign: {opens.foreign}" if opens.foreign else "accepted"


def run(first: int, end: int, models: list[Path], root: Path, told: Path) -> None:
    """Judge folders one after the other, in a process that may die of one; two lines for each, what and how it went."""
    opens = Opens()
    held = int(re.findall(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (held + BYTES, held + BYTES))
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message="Sparse")
    with told.open("w", buffering=1) as file:
        for number in range(first, end):
            path, kind, changes = made(number, models, root)
            file.write(json.dumps([number, kind, changes]) + "\n")
            # Whoever hangs is ended by this signal.
            signal.alarm(SECONDS)
            try:
                outcome = judged(path, opens, root / "again")
            except BaseException:
                outcome = traceback.format_exc(limit=-3)
            signal.alarm(0)
            file.write(json.dumps(outcome) + "\n")
            shutil.rmtree(path)


def campaign(first: int, count: int) -> list[tuple[int, str, str, str]]:
    """Number, kind, changes and outcome of all folders; one that ends its process has the signal as its outcome."""
    with tempfile.TemporaryDirectory() as place:
        root, told = Path(place).resolve(), Path(place) / "told"
        models, outcomes = valid_models(root / "valid"), list[tuple[int, str, str, str]]()
        while len(outcomes) < count:
            child = os.fork()
            if child == 0:
                try:
                    run(first + len(outcomes), first + count, models, root, told)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(0)
            _, status = os.waitpid(child, 0)
            lines = [json.loads(line) for line in told.read_text().splitlines()]
            if len(lines) % 2:
                lines.append(f"ended by signal {-os.waitstatus_to_exitcode(status)}")
            if not lines:
                sys.exit(f"folder {first + len(outcomes)} cannot be made")
            outcomes += [(*what, outcome) for what, outcome in zip(lines[::2], lines[1::2], strict=True)]
    return outcomes


def table(outcomes: list[tuple[int, str, str, str]]) -> str:
    """The outcome as Markdown."""
    kinds = collections.defaultdict(collections.Counter)
    for _, kind, _, outcome in outcomes:
        kinds[kind][outcome if outcome in ("refused", "accepted") else "wrong"] += 1
    lines = [
        "# Hostile model folders\n",
        f"Written by `make campaign`: {len(outcomes):,} folders, each a valid one with a change or two, and all",
        "checksums made anew. Refused: in one sentence. Accepted: it recommends items of its own, and the same after",
        "it was saved. Wrong: a traceback, a hang, too much memory, a file outside of the folder, another answer.\n",
        "| what was changed | folders | refused | accepted | wrong |",
        "|---|---:|---:|---:|---:|",
    ]
    total = collections.Counter()
    for kind, found in sorted(kinds.items()):
        total += found
        lines.append(
            f"| {kind} | {found.total():,} | {found['refused']:,} | {found['accepted']:,} | {found['wrong']:,} |"
        )
    lines.append(f"| all | {total.total():,} | {total['refused']:,} | {total['accepted']:,} | {total['wrong']:,} |")
    return "\n".join(lines) + "\n"


def main(args: list[str]) -> int:
    """Run the campaign; where no number is given, keep its table."""
    count, first = (int(args[0]) if args else MANY), (int(args[1]) if len(args) > 1 else 0)
    outcomes = campaign(first, count)
    wrong = [each for each in outcomes if each[3] not in ("refused", "accepted")]
    for number, kind, changes, outcome in wrong:
        print(f"{number} ({kind}): {changes!r}\n{outcome}\n")
    if not args:
        RESULTS.write_text(table(outcomes), encoding="utf-8")
    print(table(outcomes))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
