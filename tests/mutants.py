"""Faults injected into the package, one at a time, to learn which of them the tests see: `make mutants`.

`mutants.toml` lists them: a file, code in it and what takes its place, and the tests that should fail. One that no test
sees is a survivor; a survivor that is not explained there ends in exit code 1. Arguments choose faults by a part of
their file's name or of their description.
"""

import contextlib
import io
import multiprocessing
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "mutants.toml"
RESULTS = ROOT / "benchmarks" / "results" / "mutants.md"
SECONDS = 120
"""What a single test may take: a fault can make a loop endless."""
HEAVY = [
    *("hypothesis.extra.numpy", "pandas", "polars", "pytest", "scipy.optimize", "scipy.sparse", "scipy.stats"),
    *("torch", "torch._dynamo", "torch.distributed.tensor"),
]
"""Imported once: each fault has a process of its own, forked from one that has these, and not the package."""


class Mutant(NamedTuple):
    """A fault: `old` in a file of the package becomes `new`. `why` explains why no test can see it, if none can."""

    file: str
    tests: tuple[str, ...]
    fault: str
    old: str
    new: str
    why: str = ""


def listed() -> list[Mutant]:
    """All mutants, each checked: its code stands once in its file."""
    areas = tomllib.loads(LIST.read_text(encoding="utf-8"))["area"]
    mutants = [Mutant(area["file"], tuple(area["tests"]), *fault) for area in areas for fault in area["faults"]]
    for each in mutants:
        found = (ROOT / "src" / "ciess" / each.file).read_text(encoding="utf-8").count(each.old)
        if found != 1 or each.old == each.new:
            sys.exit(f"{each.file}: the code of '{each.fault}' stands there {found} times, not once:\n{each.old}")
    return mutants


class FirstFailure:
    """Remembers the first test that fails; a plugin of pytest."""

    name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid.rpartition("::")[2].partition("[")[0]


def first_failure(tests: Sequence[str], mutant: Mutant | None) -> str:
    """The first test that fails on a copy of the package with a mutant in it; empty where none does.

    To be called once in a process, which must not have imported the package.
    """
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "src", folder, dirs_exist_ok=True)
        if mutant is not None:
            path = Path(folder, "ciess", mutant.file)
            path.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        # For this process, and for those that tests start. No compiled code is written: that of a changed file could be
        # taken for that of the file as it was.
        os.environ |= {"PYTHONPATH": folder, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        sys.path.insert(0, folder)
        sys.dont_write_bytecode = True
        os.chdir(ROOT)
        first, told = FirstFailure(), io.StringIO()
        options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", f"--timeout={SECONDS}"]
        with contextlib.redirect_stdout(told):
            code = pytest.main([*options, *(f"tests/{test}" for test in tests)], plugins=[first])
        import ciess

        if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or folder not in str(ciess.__file__):
            # What cannot be imported says nothing about the tests.
            raise RuntimeError(f"{mutant}: the tests did not run\n{told.getvalue()}")
    return first.name


def table(outcome: Sequence[tuple[Mutant, str]]) -> str:
    """The outcome as Markdown."""
    survivors = [mutant for mutant, seen_by in outcome if not seen_by]
    lines = [
        "# Injected faults\n",
        "Written by `make mutants`: each fault is put into a copy of the package by itself, and the tests of its part",
        f"are run until one fails. Of {len(outcome)} faults {len(outcome) - len(survivors)} are seen by a test.\n",
        "| file | fault | first test that fails |",
        "|---|---|---|",
        *(f"| `{each.file}` | {each.fault} | {f'`{by}`' if by else 'none, see below'} |" for each, by in outcome),
    ]
    if survivors:
        lines += ["\n## Not seen\n", *(f"- `{each.file}`, {each.fault}: {each.why}" for each in survivors)]
    return "\n".join(lines) + "\n"


def main(wanted: Sequence[str]) -> int:
    """Run the campaign, and write its table where all mutants were run."""
    mutants = [each for each in listed() if not wanted or any(part in f"{each.file} {each.fault}" for part in wanted)]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    with ProcessPoolExecutor(2, context, max_tasks_per_child=1) as one_a_process:
        unchanged = one_a_process.submit(first_failure, sorted({test for each in mutants for test in each.tests}), None)
        runs = [one_a_process.submit(first_failure, each.tests, each) for each in mutants]
        outcome = []
        for mutant, run in zip(mutants, runs, strict=True):
            outcome.append((mutant, run.result()))
            print(f"{mutant.file}: {mutant.fault}: {outcome[-1][1] or 'SURVIVED'}", flush=True)
        if failed := unchanged.result():
            sys.exit(f"{failed} fails on the package as it is: what was found says nothing")
    if not wanted:
        RESULTS.write_text(table(outcome), encoding="utf-8")
    unexplained = [mutant for mutant, seen_by in outcome if not seen_by and not mutant.why]
    killed = sum(bool(seen_by) for _, seen_by in outcome)
    print(f"{killed} of {len(outcome)} are seen by tests, {len(unexplained)} survive unexplained")
    return 1 if unexplained else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
