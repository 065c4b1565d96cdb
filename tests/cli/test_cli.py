import json
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

import ciess
from ciess.cli import Compress, Demo, Search, main
from ciess.cli.options import Columns, Filters, Shared, command_line
from ciess.data import Split
from ciess.models.als import ALS
from ciess.models.factors import Factors

pytestmark = pytest.mark.usefixtures("brief")
LINES = "\n".join(f"{user} " + " ".join(str((user * 7 + step * 3) % 40) for step in range(12)) for user in range(60))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "lines.txt"
    path.write_text(LINES)
    return path


@pytest.fixture(scope="module")
def searched(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a small search from the command line, and what it printed."""
    out, printed = tmp_path_factory.mktemp("out"), StringIO()
    command = ["search", str(data), "--backbone", "als", "--dim", "16", "--budgets", "40%"]
    command += ["--set", "alpha=5", "--tune", "off", "--method", "popularity:rounds=2", "--out", str(out)]
    with pytest.MonkeyPatch.context() as patched, redirect_stdout(printed):
        patched.setattr(ALS, "distillation", ALS.distillation.shortened(12))
        main(command)
    return out, printed.getvalue()


def test_search_prints_a_table_and_saves_models(searched: tuple[Path, str]) -> None:
    out, printed = searched
    for words in (
        "Measured on test",
        r"full model +– +[01]\.",
        r"equal sizes +equal sizes +40% +[01]\.",
        r"search .* 40% +[01]\.",
    ):
        assert re.search(words, printed), printed
    assert all(len(line) <= 80 for line in printed.splitlines() if not line.startswith("saved"))
    names = ["budget-40", "figures", "report.html", "report.md", "result.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    settings = json.loads((out / "budget-40" / "model.json").read_text())["about"]
    assert settings["seed"] == 0
    assert {"torch", "ciess"} <= set(settings["versions"])
    assert settings["method"]["rounds"] == 2
    command = json.loads((out / "result.json").read_text())["settings"]["command"]
    assert command.endswith(
        f"--backbone als --budgets 40% --dim 16 --set alpha=5 --tune off --method popularity:rounds=2 --out {out}"
    )


def test_recommend_prints_a_line_for_each_user(searched: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["recommend", str(searched[0] / "budget-40"), "--users", "3", "no-one", "-k", "4"])
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"3: (\d+ \(-?\d+\.\d{3}\)(, )?){4}", first)
    assert re.fullmatch(r"no-one \(unknown user: popular items\): \d+, \d+, \d+, \d+", second)


def test_compare_prints_a_table_and_writes_files(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["compare", str(data), "--backbone", "als", "--dim", "8", "--budgets", "60%", "--methods", "mixed-random"]
    main([*command, "--seeds", "0", "1", "--out", str(out)])
    printed = capsys.readouterr().out
    for words in (
        "Measured on test",
        "wall time: tuning",
        r"full model +[01]\.",
        r"equal sizes +60% +[01]\.\d+ ± [01]",
        r"mixed-random +60% .*[−+]\d+",
    ):
        assert re.search(words, printed), printed
    assert all(len(line) <= 80 for line in printed.splitlines() if not line.startswith("wrote"))
    written = {"comparison.json", "comparison.tex", "report.html", "report.md", "figures", "cells"}
    assert {path.name for path in out.iterdir()} == written
    settings = json.loads((out / "comparison.json").read_text())["settings"]
    assert settings["command"].startswith(f"ciess compare {data} --backbone als")
    assert "methods=('mixed-random',)" in settings["call"]


def test_given_splits(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held_out = tmp_path / "valid.txt"
    held_out.write_text("\n".join(f"{user} {(user * 7 + 1) % 40}" for user in range(60)))
    command = ["search", "--train", str(data), "--valid", str(held_out), "--backbone", "mf", "--dim", "8"]
    main(
        [
            *command,
            "--set",
            "batch_size=2000",
            "--tune",
            "off",
            "--method",
            "marginal:rounds=1,steps=5",
            "--budgets",
            "60%",
            "--out",
            str(tmp_path / "out"),
        ]
    )
    assert "Measured on validation" in capsys.readouterr().out


def test_the_k_core_of_a_given_split_is_of_all_parts(tmp_path: Path) -> None:
    """Users 0 to 3 and items 0 to 3 are a core of two, user 4 and item 4 are not. One item of each user is held out."""
    train = [(user, (user + step) % 4) for user in range(4) for step in (0, 1)]
    valid = [(user, (user + 2) % 4) for user in range(4)] + [(4, 0), (0, 4)]
    for name, pairs in (("train", train), ("valid", valid)):
        (tmp_path / f"{name}.csv").write_text("user,item\n" + "".join(f"{user},{item}\n" for user, item in pairs))
    files = {name: tmp_path / f"{name}.csv" for name in ("train", "valid")}
    split = Shared(**files, filters=Filters(k_core=2)).interactions()
    assert isinstance(split, Split)
    assert (split.train.n_users, split.train.n_items, len(split.train), len(split.valid)) == (4, 4, 8, 4)


def test_the_layout_of_numbers_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "numbers.txt"
    path.write_text("1 2 3\n2 3 4\n")
    counts = [len(Filters(columns=Columns(layout=layout)).read(path)) for layout in ("lines", "table")]  # type: ignore[arg-type]
    assert counts == [4, 2]


def test_factors_are_named_by_their_files(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = tmp_path / "U.npy", tmp_path / "V.npy"
    np.save(users, np.ones((60, 3)))
    np.save(items, np.ones((40, 3)))
    searched: list[object] = []
    monkeypatch.setattr("ciess.cli.search.search_and_show", lambda *_, backbone, **__: searched.append(backbone))
    options = ["--user-factors", str(users), "--item-factors", str(items)]
    main(["search", str(data), "--backbone", "Factors", *options])
    assert searched == [Factors(dim=3, users=users, items=items)]


BAD = {
    "no ratings": (
        ["search", "PAIRS", "--min-rating", "3"],
        "--min-rating needs a rating column; found user, item: name it, --columns rating=NAME",
    ),
    "no usual column": (
        ["search", "STRANGE"],
        "no column of users is known among who, item: name it, --columns user=NAME",
    ),
    "missing file": (["search", "nowhere.txt"], "nowhere.txt does not exist"),
    "no data": (["search"], "no interactions are given"),
    "data and train": (["search", "DATA", "--train", "DATA"], "DATA and --train are both given"),
    "train alone": (["search", "--train", "DATA"], "both --train and --valid"),
    "zero budget": (["search", "DATA", "--budgets", "0%"], "budget '0%' leaves no room"),
    "budget above all": (["search", "DATA", "--budgets", "200%"], "budget '200%' is more than the full tables"),
    "no budget": (["search", "DATA", "--budgets", "abc"], "budget 'abc' is not a budget"),
    "a loss that is no share": (["search", "DATA", "--max-tail-loss", "5"], "--max-tail-loss is '5': write a share"),
    "unknown backbone": (["search", "DATA", "--backbone", "gpt"], "'gpt' is not a backbone"),
    "unknown method": (["search", "DATA", "--method", "magic"], "'magic' is not a method"),
    "settings of another method": (["search", "DATA", "--method", "equal", "--episodes", "3"], "leave them out"),
    "one table of factors": (
        ["search", "DATA", "--backbone", "factors", "--user-factors", "U.npy"],
        "name both --user-factors and --item-factors",
    ),
    "factors for another backbone": (
        ["search", "DATA", "--user-factors", "U.npy", "--item-factors", "V.npy"],
        "does nothing with lightgcn: add --backbone factors",
    ),
    "missing factors": (
        ["search", "DATA", "--backbone", "factors", "--user-factors", "U.npy", "--item-factors", "V.npy"],
        "U.npy does not exist",
    ),
    "foreign column": (["search", "DATA", "--min-rating", "3"], "holds no ratings"),
    "unknown method in a comparison": (["compare", "DATA", "--methods", "equal", "magic"], "'magic' is not a method"),
    "a seed twice": (["compare", "DATA", "--methods", "equal", "--seeds", "1", "1"], "seeds must be given, each once"),
    "columns that name none": (["search", "DATA", "--columns", "who"], "write one or more of user=NAME item=NAME"),
    "a column of no role": (["search", "DATA", "--columns", "price=cost"], "write one or more of user=NAME item=NAME"),
    "no model": (["recommend", "nowhere", "--users", "1"], "nowhere holds no model.json"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_code_2_and_one_sentence(
    case: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args, message = BAD[case]
    out = [] if args[0] == "recommend" else ["--out", str(tmp_path / "out")]
    files = {"DATA": data, "PAIRS": tmp_path / "pairs.csv", "STRANGE": tmp_path / "strange.csv"}
    files["PAIRS"].write_text("user,item\n1,2\n")
    files["STRANGE"].write_text("who,item\n1,2\n")
    with pytest.raises(SystemExit) as end:
        main([str(files.get(arg, arg)) for arg in args] + out)
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("ciess: ")
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_import_is_light() -> None:
    """Torch and polars take seconds to import; `import ciess` and `ciess --help` must not."""
    script = "import sys, ciess, ciess.cli; sys.exit('torch' in sys.modules or 'polars' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    "typed",
    [
        "ciess search 'my ratings.csv' --backbone mf --budgets 10% 32MB --min-rating 4.0 --columns user=who time=when",
        "ciess search --train a.csv --valid b.csv --preset paper --out there",
        "ciess compress --users U.npy --items V.npy --interactions data.npz --budgets 1%",
        "ciess demo",
    ],
)
def test_a_command_is_spelled_as_it_was_typed(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[object] = []
    for command in (Search, Compress, Demo):
        monkeypatch.setattr(command, "run", lambda self, _: run.append(self))
    main(shlex.split(typed)[1:])
    assert command_line(run[0]) == typed


def test_the_users_home_is_meant_by_its_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--out=~/mine` reaches the command as it is typed. A name may hold the mark elsewhere."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here~.csv").write_text("user,item\n" + "".join(f"{user},{user % 3}\n" for user in range(9)))
    main(["data", "convert", "~/here~.csv", "~/there.csv"])
    assert (ciess.read("~/there.csv").matrix != ciess.read("here~.csv").matrix).nnz == 0
    given = {"backbone": ciess.ALS(dim=4, training=ciess.Training(steps=2)), "method": "equal", "refit": False}
    data = ciess.synthetic(users=30, items=20, mean_count=6).interactions
    ciess.search(data, budgets="90%", **given).save("~/mine")
    assert ciess.load("~/mine/budget-90").plan == ciess.load(tmp_path / "mine" / "budget-90").plan
    assert not (tmp_path / "~").exists()
