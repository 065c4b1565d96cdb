"""What is mistyped, or does nothing, is refused in one sentence."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import ciess.experiment.apply
import ciess.experiment.compress  # noqa: F401 - before a test replaces what it imports
from ciess.cli import COMMANDS, main
from ciess.cli.compare import Compare
from ciess.cli.options import with_options
from ciess.cli.recommend import Recommend
from ciess.cli.reference import helps
from ciess.cli.search import Search
from ciess.cli.values import separated
from ciess.cli.words import options_of, subcommands
from ciess.models import backbone_names, backbone_uses

MISTYPED = {
    "serch x": "'serch' is not a command (did you mean 'search'?)",
    "data lst": "'lst' is not a command (did you mean 'list'?): use one of list, fetch, describe, convert",
    "search x --budgetz 5%": "ciess search has no option --budgetz (did you mean '--budgets'?)",
    "search x --min_ratng=3": "ciess search has no option --min_ratng (did you mean '--min-rating'?)",
    "data describe x --k-cor 2": "ciess data describe has no option --k-cor (did you mean '--k-core'?)",
    "data list --quiet": "ciess data list has no option --quiet: see ciess data list --help",
    "--verison": "ciess has no option --verison (did you mean '--version'?)",
    "search x --backbone lihgtgcn": "'lihgtgcn' is not a backbone (did you mean 'lightgcn'?)",
    "search x --method popularty": "'popularty' is not a method (did you mean 'popularity'?)",
    "data fetch ml1m": "'ml1m' is not in the catalogue (did you mean 'ml-1m'?)",
    "export m fais out": "'fais' is not a target of exports (did you mean 'faiss'?)",
}
IDLE = {
    "search x --l2 0.1 --backbone als": "--l2 does nothing with als: leave it out (used by lightgcn, mf, ncf, ngcf)",
    "compare x --backbone als --l2 0.1": "--l2 does nothing with als",
    "search x --backbone factors --dim 8 --user-factors u --item-factors v": "--dim does nothing with factors",
    "search x --backbone factors --l2 8 --user-factors u --item-factors v": "--l2 does nothing with factors",
    "search x --backbone als --dim 8 --set dim=4": "gives a setting that is given already: give each once",
    "search x --backbone als --set alpha=4,alpha=5": "gives a setting that is given already: give each once",
    "search x --backbone als --set alpha=4,lr=1": "--set lr does nothing with als: leave it out (used by lightgcn,",
    "search x --backbone als --set alfa=4": "--set alfa does nothing with als: leave it out (did you mean 'alpha'?)",
    "search x --user-factors u --item-factors v": "does nothing with lightgcn: add --backbone factors",
    "search x --test t": "DATA and --test are both given: leave one out",
    "search --test t": "--test alone is not enough: name DATA, or both --train and --valid",
    "search --train t --test t": "--train --test alone is not enough",
    "search x --method equal --episodes 2": "--preset and --episodes are settings of CIESS",
    "search x --k-core 0": "--k-core is 0: give a number of 1 or more",
    "search x --columns user=a user=b": "does not name columns, each once",
    "estimate --users 9 --items 9 --interactions 9 --columns user=a": "columns and filters do nothing without DATA",
    "estimate --users 9 --items 9 --interactions 9 --k-core 2": "columns and filters do nothing without DATA",
    "estimate synthetic --users 9": "DATA and --users, --items or --interactions are both given",
    "estimate synthetic --backbone factors": "factors are not trained",
    "recommend m --users 1 --users-from f": "--users and --users-from are both given",
    "recommend m": "no users are given",
    "apply nowhere.csv --policy m": "m holds no policy.json: name a folder such as",
    "compare nowhere.csv --methods equal,ciess:episodes=5,steps=3,rule": "'rule' is not a method",
    "stream nowhere.csv --segments 0": "--segments is 0: give a number of 1 or more",
    "compare nowhere.csv --executor processes": "executor is 'processes': write processes:4, ray, or ray:ADDRESS",
    "stream nowhere.csv --budget 5": "budget '5' has no unit: write '5%'",
    "stream nowhere.csv --budget 4000": "a share of the full tables, or '4000B'",
    "distribute nowhere.csv --precision tapered": "precision 'tapered' is found or scaled by many rows",
    "distribute nowhere.csv --precision int4-shared": "use float32, float16, int8, int6 or int4",
    "distribute nowhere.csv --backbone ncf --set tune=3": "--set tune does nothing with ncf",
    "distribute nowhere.csv --dim 8 --set dim=4": "gives a setting that is given already: give each once",
    "distribute nowhere.csv --budget 5": "budget '5' has no unit: write '5%'",
    "stream nowhere.csv --seed -1": "--seed is -1: give a number from 0",
}


UNFIT = {
    "search x --precision int5": "--precision: the value is 'int5': use 'auto', 'float32',",
    "search x --seed 1.5": "--seed: '1.5' is not a whole number: see ciess search --help",
    "search x --budgets 5% --seed": "Missing value for argument '--seed'. Expected 1 values: see ciess search --help",
    "search x y": "Unrecognized options: y: see ciess search --help",
    "recommend": "Missing from ciess recommend: MODEL",
    "data prepare": "see ciess data prepare --help",
    "distribute synthetic --backbone ncf": "NCF is not trained on several processes: use mf or als",
    "distribute nowhere.csv --policy nowhere": "nowhere holds no policy.json: name a folder such as",
    "stream synthetic": "no times are known, by which a stream is cut: name their column, --columns time=NAME",
    "data": "Expected one of {list, fetch, describe, convert, prepare}: see ciess data --help",
}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("colour", ["0", "1"])
def test_the_parser_says_what_is_wrong_in_one_sentence(colour: str, encoding: str) -> None:
    """Wherever it is printed: its box is in colour on a terminal, and of dashes where there are no lines."""
    command = [sys.executable, "-m", "ciess", "search", "x", "--precision", "itn8"]
    surroundings = {**os.environ, "FORCE_COLOR": colour, "PYTHONIOENCODING": encoding}
    run = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    assert run.returncode == 2
    assert re.fullmatch(
        r"ciess: --precision: the value is 'itn8': use .* \(did you mean 'int8'\?\): see .*\n", run.stderr
    )


@pytest.mark.parametrize(("typed", "said"), [*MISTYPED.items(), *IDLE.items(), *UNFIT.items()])
def test_it_is_refused_in_one_sentence(
    typed: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(shlex.split(typed))
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.startswith("ciess: ")
    assert printed.count("\n") == 1
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", [name for name, kind in COMMANDS.items() if not subcommands(kind)])
def test_the_known_options_are_those_of_the_help(name: str) -> None:
    [(_, text)] = helps(name)
    assert set(re.findall(r"^ +(?:-\w(?: N)?, )?(--\w[\w-]*)", text, re.MULTILINE)) == {
        option for option in options_of(COMMANDS[name]) if option.startswith("--")
    }


@pytest.mark.parametrize(
    ("typed", "called"),
    [
        ("search x", "ciess.experiment.pipeline.search"),
        ("apply x --policy p", "ciess.experiment.pipeline.search"),
        ("compare x", "ciess.experiment.compare.compare"),
        ("compress --users u --items v --interactions x", "ciess.experiment.compress.compress"),
        ("stream x", "ciess.experiment.stream.stream"),
    ],
)
def test_every_option_is_looked_at(typed: str, called: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that a command has, and does not use, would do nothing without a word."""
    looked: set[str] = set()
    monkeypatch.chdir(tmp_path)
    name = typed.split()[0]

    class Begun(Exception):
        pass

    def begin(*_: object, **__: object) -> None:
        raise Begun

    def noting(self: object, field: str) -> object:
        # What writes the command down looks at all.
        if sys._getframe(1).f_code.co_name != "_arguments":
            looked.add(field)
        return object.__getattribute__(self, field)

    files = "data.read", "models.factors.Factors.__init__", "methods.policy.SizePolicy.load"
    for place in (called, *(f"ciess.{each}" for each in (*files, "experiment.compress.check_fit"))):
        monkeypatch.setattr(place, begin if place == called else lambda *_, **__: None)
    monkeypatch.setattr("ciess.cli.options.Filters.core", lambda _, data: data)
    monkeypatch.setattr(COMMANDS[name], "__getattribute__", noting)
    with pytest.raises(Begun):
        main(typed.split())
    # These are looked at as soon as there is a result.
    assert {field.name for field in fields(COMMANDS[name])} - looked <= {"printing"}


@pytest.mark.parametrize("name", backbone_names())
def test_every_backbone_takes_the_options_that_it_uses_and_no_others(name: str) -> None:
    files = {"user_factors": Path("u"), "item_factors": Path("v")} if name == "factors" else {}
    for option, value in {"dim": 6, "l2": 0.5}.items():
        command = Search(backbone=name, **files, **{option: value})  # type: ignore[arg-type]
        if option in backbone_uses(name):
            config = command.config()
            assert value in (getattr(config, option, None), getattr(config.training, option, None))
        else:
            with pytest.raises(ValueError, match=f"--{option} does nothing with {name}"):
                command.config()


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("give the ids in the order of the rows (user_ids)", "give the ids in the order of the rows (--user-ids)"),
        ("so give them (user_ids and item_ids)", "so give them (--user-ids and --item-ids)"),
        ("user_ids.csv cannot be read: name another", "user_ids.csv cannot be read: name another"),
        ("search with target='output', or search anew", "search with --target output, or search anew"),
        ("a rating threshold needs x: name it, rating=NAME", "--min-rating needs x: name it, --columns rating=NAME"),
        ("--columns a names none: write user=NAME", "--columns a names none: write user=NAME"),
    ],
)
def test_messages_are_in_the_words_of_the_command_line(said: str, told: str) -> None:
    assert with_options(said) == told


def test_lists_are_written_with_spaces_or_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert separated(("5%,10%", "20%,", " 32MB")) == ("5%", "10%", "20%", "32MB")
    told: list[Compare] = []
    monkeypatch.setattr(Compare, "run", lambda self, _: told.append(self))
    main(shlex.split("compare x --seeds 0,1 2"))
    assert told[0].seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("typed", "users", "k"),
    [
        ("--users -id3 -x -k 3", ("-id3", "-x"), 3),
        ("-k 3 --users -5 7 -id3 --json", ("-5", "7", "-id3"), 3),
        ("--users=-id3", ("-id3",), 10),
        ("--users=--id3", ("--id3",), 10),
        ("--users a -k3 --include-seen", ("a",), 3),
    ],
)
def test_ids_of_users_may_begin_with_a_dash(
    typed: str, users: tuple[str, ...], k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Recommend] = []
    monkeypatch.setattr(Recommend, "run", lambda self, _: told.append(self))
    main(["recommend", "m", *shlex.split(typed)])
    assert (told[0].users, told[0].k) == (users, k)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out.startswith("ciess 0.")
