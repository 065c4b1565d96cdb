import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bad_files import flagged
from server import Server, running, status, whole

from ciess.cli import main
from ciess.data import catalogue, read
from ciess.data.catalogue import CATALOGUE, NamedSet, Source, cache_folder, fetch, located
from ciess.errors import InputError

RATINGS = b"7::10::5::100\n7::30::4::100\n8::30::1::200\n"


def archive(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, body in files.items():
            packed.writestr(name, body)
    return content.getvalue()


WHOLE = archive({"ratings.dat": RATINGS * 9})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Offers `films`, an archive with a checksum beside it, and `places`, two files without; the cache is empty."""
    monkeypatch.setenv("CIESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CIESS_DATA", raising=False)
    with running() as server:
        offer_films(server, archive({"films/ratings.dat": RATINGS, "films/README": b"Hello."}))
        halves = [Source(server.offer(f"/{half}.txt", whole(b"0 1 2\n1 3\n")), 0.1) for half in ("train", "test")]
        films = Source(f"{server.url}/films.zip", 0.1, "ratings.dat", md5_beside=True)
        terms = ("Be kind.", "https://films.example/terms")
        sets = {"films": (films,), "places": tuple(halves)}
        monkeypatch.setattr(
            catalogue, "CATALOGUE", {name: NamedSet("ratings", 2, 2, 3, each, *terms) for name, each in sets.items()}
        )
        monkeypatch.setattr("ciess.data.readers.CATALOGUE", catalogue.CATALOGUE)
        yield server


def offer_films(server: Server, body: bytes) -> None:
    server.offer("/films.zip", whole(body))
    server.offer("/films.zip.md5", whole(f"{hashlib.md5(body).hexdigest()}  films.zip\n".encode()))


def test_a_set_is_fetched_once_and_stands_for_a_path(server: Server) -> None:
    folder = fetch("films", accept_terms=True)
    assert folder == cache_folder() / "data" / "films"
    assert sorted(path.name for path in folder.iterdir()) == ["ratings.dat", "source.json"], "no archive is left"
    assert len(read("films")) == 3
    assert len(read("films", min_rating=4)) == 2
    about = json.loads((folder / "source.json").read_text())
    assert about["sources"][0]["url"].endswith("/films.zip")
    assert about["terms"] == "Be kind."
    server.asked.clear()
    assert fetch("films") == folder, "no terms are asked for what is here"
    assert not server.asked


def test_terms_come_first(server: Server) -> None:
    with pytest.raises(
        InputError, match=r"films has terms \(Be kind. https://films.example/terms\).*accept_terms=True"
    ):
        fetch("films")
    assert not server.asked
    assert not cache_folder().exists()


def test_offline_nothing_is_asked(server: Server) -> None:
    with pytest.raises(InputError, match="films is not on this machine: fetch it once with a connection"):
        fetch("films", accept_terms=True, offline=True)
    assert not server.asked
    fetch("films", accept_terms=True)
    assert fetch("films", offline=True) == located("films")


def test_a_folder_of_ones_own_comes_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("films", accept_terms=True)
    own = tmp_path / "own" / "films"
    own.mkdir(parents=True)
    (own / "lines.txt").write_text("0 1\n")
    monkeypatch.setenv("CIESS_DATA", str(own.parent))
    assert len(read("films")) == 1


def test_a_path_goes_before_a_name(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("films", accept_terms=True)
    monkeypatch.chdir(tmp_path)
    Path("films").write_text("0 1\n")
    assert len(read("films")) == 1


def test_a_set_that_breaks_off_is_not_there(server: Server) -> None:
    server.offer("/test.txt", status(404))
    with pytest.raises(InputError, match=r"/test.txt cannot be downloaded"):
        fetch("places", accept_terms=True)
    assert located("places") is None
    server.offer("/test.txt", whole(b"0 3\n"))
    fetch("places", accept_terms=True)
    assert len(read("places")) == 4


def test_without_a_published_checksum_the_first_download_counts(server: Server) -> None:
    folder = fetch("places", accept_terms=True)
    folder.rename(folder.with_name("elsewhere"))
    fetch("places", accept_terms=True)
    (folder / "train.txt").unlink()
    folder.rename(folder.with_name("again"))
    server.offer("/train.txt", whole(b"0 1 2\n1 4\n"))
    with pytest.raises(InputError, match=r"is not the file that it was .* take its line out of .*checksums.txt"):
        fetch("places", accept_terms=True)
    assert located("places") is None
    pins = cache_folder() / "data" / "checksums.txt"
    pins.write_text("\n".join(line for line in pins.read_text().splitlines() if "train" not in line))
    fetch("places", accept_terms=True)
    assert set(read("places").item_ids) == {1, 2, 3, 4}


def test_paths_in_an_archive_lead_nowhere(server: Server, tmp_path: Path) -> None:
    offer_films(server, archive({"../../../ratings.dat": RATINGS, "/tmp/evil": b"x", "../evil": b"x"}))
    folder = fetch("films", accept_terms=True)
    assert (folder / "ratings.dat").read_bytes() == RATINGS
    outside = {path.name for path in tmp_path.rglob("*") if folder not in path.parents}
    assert outside <= {"cache", "data", "films", "films.lock"}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "films.zip is not an archive that holds one ratings.dat"),
        (archive({"other.dat": b"x"}), "films.zip is not an archive that holds one ratings.dat"),
        (archive({"a/ratings.dat": b"x", "b/ratings.dat": b"x"}), "films.zip is not an archive that holds one"),
        (archive({"ratings.dat": b"\0" * 3_000_000}), "ratings.dat in films.zip is 3,000,000 bytes, too large"),
        (WHOLE[:-30], "films.zip is not an archive that holds one ratings.dat"),
        (flagged(WHOLE, 6, 8, 1), r"films.zip is not an archive .*encrypted"),
        (flagged(WHOLE, 8, 10, 99), "films.zip is not an archive that holds one ratings.dat"),
        (flagged(WHOLE, 14, 16, 0), r"films.zip is not an archive .*Bad CRC-32"),
        (WHOLE[:60] + bytes(4) + WHOLE[64:], "films.zip is not an archive that holds one ratings.dat"),
    ],
    ids=["no archive", "missing", "two", "a bomb", "cut", "encrypted", "an unknown packing", "another sum", "damaged"],
)
def test_archives_that_are_refused(server: Server, body: bytes, message: str) -> None:
    offer_films(server, body)
    with pytest.raises(InputError, match=message):
        fetch("films", accept_terms=True)
    assert located("films") is None
    offer_films(server, archive({"a/ratings.dat": RATINGS}))
    assert fetch("films", accept_terms=True) == located("films"), "what was refused is not gone on with"


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"one\n", b"a b c\n"])
def test_a_list_of_checksums_that_is_none(server: Server, content: bytes) -> None:
    server.offer("/train.txt", whole(b"1 2 3\n4 1\n"))
    server.offer("/test.txt", whole(b"1 4\n"))
    path = cache_folder() / "data" / "checksums.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"checksums.txt is no list of checksums \(.*\): remove it"):
        fetch("places", accept_terms=True)
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"\xff" * 40, b"", b"no checksum here"])
def test_a_published_checksum_that_is_none(server: Server, content: bytes) -> None:
    offer_films(server, archive({"a/ratings.dat": RATINGS}))
    server.offer("/films.zip.md5", whole(content))
    with pytest.raises(InputError, match=r"films.zip.md5 holds no MD5 checksum: try again later"):
        fetch("films", accept_terms=True)


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        InputError, match=r"cannot be written \(Not a directory\): name another folder with CIESS_CACHE"
    ):
        fetch("films", accept_terms=True)


def test_the_cache_is_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("CIESS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/somebody/.cache/ciess")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/ciess")
    monkeypatch.setenv("CIESS_CACHE", "/own")
    assert cache_folder() == Path("/own")


def test_names_that_are_not_there(server: Server) -> None:
    with pytest.raises(InputError, match="films is not on this machine: fetch it with `ciess data fetch films`"):
        read("films")
    with pytest.raises(InputError, match=r"flims does not exist \(did you mean 'films'\?\): check the path, or name a"):
        read("flims")
    with pytest.raises(InputError, match=r"'flims' is not in the catalogue .*'films'\?\): use one of films, places"):
        fetch("flims", accept_terms=True)


def test_the_embedded_set_has_a_name() -> None:
    assert len(read("synthetic")) > 10_000


def test_every_entry_is_whole() -> None:
    for entry in CATALOGUE.values():
        assert entry.interactions < entry.users * entry.items
        assert all(source.url.startswith("https://") and source.megabytes > 1 for source in entry.sources)
        assert all(bool(source.member) == source.name.endswith(".zip") for source in entry.sources)
        assert entry.terms.endswith(".")
        assert entry.terms_url.startswith("https://")


def test_the_command_shows_terms_and_what_is_here(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["data", "fetch", "films"])
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert "Be kind." in shown.out
    assert "--accept-terms" in shown.err
    main(["data", "fetch", "places", "--accept-terms"])
    shown = capsys.readouterr().out
    assert shown.index("Be kind.") < shown.index("places is in ") < shown.index("offers no checksum")
    main(["data", "list"])
    films, places = capsys.readouterr().out.splitlines()[1:3]
    assert (films.split()[-1], places.split()[-1]) == ("ratings", "yes")


@pytest.mark.parametrize(("answer", "fetched"), [("yes", True), ("no", False)])
def test_a_terminal_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch, answer: str, fetched: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    monkeypatch.setattr("rich.console.Console.input", lambda *_: answer)
    if fetched:
        main(["data", "fetch", "films"])
    else:
        with pytest.raises(SystemExit):
            main(["data", "fetch", "films"])
        assert "the terms are not accepted" in capsys.readouterr().err
    assert (located("films") is not None) == fetched
