import dataclasses
import re
from pathlib import Path
from typing import ClassVar

import pytest

from ciess.errors import InputError
from ciess.experiment.keys import canonical
from ciess.experiment.trials import methods_by_name
from ciess.methods import cheap_methods, method_name, method_named, method_names, methods_named
from ciess.methods.autoemb import AutoEmb
from ciess.methods.bet import BET
from ciess.methods.ciess.budgeted import Ciess
from ciess.methods.equal import EqualSizes
from ciess.methods.mixed import MixedRandom
from ciess.methods.popularity import Popularity

OWN = """
from dataclasses import dataclass
from ciess.methods.equal import EqualSizes
from ciess.methods.problem import SearchResult

@dataclass(frozen=True)
class MostToItems:
    share: float = 0.5

    def search(self, problem):
        return SearchResult(best={})

@dataclass(frozen=True)
class Other:
    def search(self, problem):
        return SearchResult(best={})

@dataclass(frozen=True)
class NeedsSettings:
    share: float

    def search(self, problem):
        return SearchResult(best={})
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def test_methods_of_the_package_are_found_and_can_be_made() -> None:
    assert {"ciess", "equal", "mixed-random", "popularity"} <= {*method_names()}
    for name in method_names():
        method = method_named(name)
        assert method_name(method) == name
        assert dataclasses.is_dataclass(method)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("equal", EqualSizes()), ("Mixed-Random", MixedRandom()), ("mixed_random", MixedRandom()), ("CIESS", Ciess())],
)
def test_names_are_read_as_people_write_them(text: str, expected: object) -> None:
    assert method_named(text) == expected


def test_names_are_those_of_classes_unless_a_class_says_otherwise() -> None:
    @dataclasses.dataclass
    class BETSampler:
        pass

    @dataclasses.dataclass
    class Named:
        name: ClassVar[str] = "short"

    assert method_name(BETSampler) == "bet-sampler"  # type: ignore[type-var,arg-type]
    assert method_name(Named) == "short"  # type: ignore[arg-type]


def test_cheap_methods_say_so_themselves() -> None:
    cheap = cheap_methods()
    assert (cheap["popularity"], cheap["ciess"]) == (Popularity(), Ciess())
    assert not {"equal", "mixed-random"} & {*cheap}


def test_the_paper_is_a_method_that_no_comparison_tries_by_itself() -> None:
    assert method_named("ciess-paper:price=0.2") == Ciess.paper(price=0.2)
    assert {*method_names()} - {*method_names(by_default=True)} == {"ciess-paper"}


def test_a_file_of_ones_own_holds_methods(own: Path) -> None:
    assert [*methods_named(str(own))] == ["most-to-items", "other"], "not what it imports, nor what needs settings"
    assert [*methods_named(f"{own}:Other")] == ["other"]
    assert method_named(f"{own}:MostToItems") == methods_named(str(own))["most-to-items"], "one class, not two"


def test_files_of_one_name_are_told_apart(own: Path, tmp_path: Path) -> None:
    """Else cells of one file's method would be known by the code of the other."""
    other = tmp_path / "elsewhere" / own.name
    other.parent.mkdir()
    other.write_text(OWN.replace("0.5", "0.25"))
    found = [method_named(f"{path}:MostToItems") for path in (own, other, own)]
    first, second, again = (canonical(each, "method") for each in found)
    assert first == again != second


def test_settings_are_read_behind_a_name(own: Path) -> None:
    assert methods_named("popularity:rounds=5,plans=7") == {
        "popularity:rounds=5,plans=7": Popularity(rounds=5, plans=7)
    }
    assert method_named("BET:predicted=False") == BET(predicted=False)
    assert method_named("ciess:choice=actor,start=None") == Ciess(choice="actor", start=None)
    assert method_named("autoemb:candidates=(2, 4),hidden=8") == AutoEmb(candidates=(2, 4), hidden=8)
    [(name, mine)] = methods_named(f"{own}:MostToItems:share=0.25").items()
    assert (name, dataclasses.asdict(mine)) == ("most-to-items:share=0.25", {"share": 0.25})  # type: ignore[call-overload]


def test_methods_are_written_with_commas_between_them_or_not(own: Path) -> None:
    settings = "ciess:episodes=5,walk_length=0", f"{own}:MostToItems:share=0.25", "autoemb:candidates=(2, 4),hidden=8"
    texts = ["equal", *settings, "marginal"]
    for written in (texts, ",".join(texts), [", ".join(texts[:2]), *texts[2:]], [f"{each}," for each in texts]):
        found = methods_by_name(written)
        assert [*found] == ["equal", settings[0], "most-to-items:share=0.25", settings[2], "marginal"]
        assert found[settings[0]] == Ciess(episodes=5, walk_length=0)
    with pytest.raises(InputError, match="give each a name of its own"):
        methods_by_name("magnitude,magnitude")
    with pytest.raises(InputError, match="',' is not a method"):
        methods_by_name(",")


def test_what_is_no_method_is_refused_with_one_sentence(own: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    (tmp_path / "quits.py").write_text("raise SystemExit(0)")
    for text, message in (
        ("gradient", "'gradient' is not a method: use one of .*popularity"),
        (f"{own}:NeedsSettings", "holds no method NeedsSettings"),
        (str(tmp_path / "none.py"), "none.py does not exist"),
        (str(broken), r"broken.py does not run \(ZeroDivisionError: division by zero\)"),
        (str(tmp_path / "quits.py"), r"quits.py does not run \(SystemExit: 0\)"),
        ("popularity:round=3", "popularity has no such setting as in 'popularity:round=3': it has rounds, plans"),
        ("popularity:rounds=abc", "rounds is 'abc': give a whole number"),
        ("popularity:plans=0", "plans is 0: give a number of 1 or more"),
        ("ciess:choice=critics", "choice is 'critics'"),
        ("pep:start=old", "start is 'old'"),
        ("optembed:mutation_rate=2", "mutation_rate is 2: give a number from 0 to 1"),
        ("autoemb:candidates=4", "candidates is 4: give one value or more as a tuple"),
        ("autoemb:candidates=(4, 0)", "candidates is 0"),
        ("popularity:rounds=", "'rounds=' in 'popularity:rounds=' is no setting"),
        (str(own), "holds 2 methods: name one, as .*own.py:MostToItems"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            method_named(text)
        assert not re.search(r"\n", str(caught.value))
