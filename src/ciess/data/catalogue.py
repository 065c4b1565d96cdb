"""Named data sets: where their publishers offer them, on what terms, and where they lie on this machine."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

from filelock import FileLock

from ciess.checks import check, nearest
from ciess.data.download import checksum, download, published_md5
from ciess.errors import InputError, refused
from ciess.files import write_whole
from ciess.progress import Progress, silent

_MEGABYTE = 10**6
_LARGER = 2
"""How much larger than expected a download may be."""
_UNPACKED = 10
"""How much larger than its archive a file may be."""
_PINS, _DONE = "checksums.txt", "done.json"
_PIECE = 1 << 20


@dataclass(frozen=True)
class Source:
    """A file that a publisher offers.

    Attributes:
        url: where.
        megabytes: its size, roughly.
        member: of a zip archive, the name of the file that is kept.
        md5_beside: whether the publisher offers its checksum at `url` + `.md5`.
    """

    url: str
    megabytes: float
    member: str = ""
    md5_beside: bool = False

    @property
    def name(self) -> str:
        """The file's own name."""
        return PurePosixPath(self.url).name


@dataclass(frozen=True)
class NamedSet:
    """An entry of the catalogue.

    Attributes:
        about: what the interactions are.
        users: how many.
        items: how many with interactions.
        interactions: pairs of a user and an item.
        sources: files that make it.
        terms: what the publisher asks of those who use it, in short.
        terms_url: the publisher's own words.
    """

    about: str
    users: int
    items: int
    interactions: int
    sources: tuple[Source, ...]
    terms: str
    terms_url: str

    @property
    def megabytes(self) -> float:
        """What is downloaded, roughly."""
        return sum(source.megabytes for source in self.sources)


def _movielens(
    name: str, member: str, megabytes: float, counts: tuple[int, int, int], readme: str, sharing: str
) -> NamedSet:
    base = "https://files.grouplens.org/datasets/movielens"
    return NamedSet(
        "ratings of films",
        *counts,
        (Source(f"{base}/{name}.zip", megabytes, member, md5_beside=True),),
        f"Research only, not for commercial use; cite Harper and Konstan (2015); {sharing}.",
        f"{base}/{readme}",
    )


def _lightgcn(about: str, name: str, megabytes: float, counts: tuple[int, int, int], origin: str, url: str) -> NamedSet:
    # Where the method's authors publish the split that papers compare on.
    base = f"https://raw.githubusercontent.com/gusye1234/LightGCN-PyTorch/master/data/{name}"
    return NamedSet(
        about,
        *counts,
        tuple(
            Source(f"{base}/{part}.txt", size) for part, size in (("train", 0.8 * megabytes), ("test", 0.2 * megabytes))
        ),
        f"The split's authors state no licence; {origin}; cite He et al. (2020).",
        url,
    )


_KEEP, _SHARE = "do not pass it on", "pass it on only on these terms"

CATALOGUE = {
    "ml-100k": _movielens("ml-100k", "u.data", 4.9, (943, 1_682, 100_000), "ml-100k-README.txt", _KEEP),
    "ml-1m": _movielens("ml-1m", "ratings.dat", 5.9, (6_040, 3_706, 1_000_209), "ml-1m-README.txt", _KEEP),
    "ml-10m": _movielens("ml-10m", "ratings.dat", 65.6, (69_878, 10_677, 10_000_054), "ml-10m-README.html", _KEEP),
    "ml-20m": _movielens("ml-20m", "ratings.csv", 198.7, (138_493, 26_744, 20_000_263), "ml-20m-README.html", _SHARE),
    "ml-25m": _movielens("ml-25m", "ratings.csv", 262.0, (162_541, 59_047, 25_000_095), "ml-25m-README.html", _SHARE),
    "ml-32m": _movielens("ml-32m", "ratings.csv", 239.0, (200_948, 84_432, 32_000_204), "ml-32m-README.html", _SHARE),
    "gowalla": _lightgcn(
        "check-ins at places",
        "gowalla",
        6.0,
        (29_858, 40_981, 1_027_370),
        "the check-ins are Stanford's SNAP collection's, to be cited",
        "https://snap.stanford.edu/data/loc-gowalla.html",
    ),
    "yelp2018": _lightgcn(
        "reviews of businesses",
        "yelp2018",
        9.2,
        (31_668, 38_048, 1_561_406),
        "Yelp's data are for academic use only",
        "https://www.yelp.com/dataset",
    ),
    "amazon-book": _lightgcn(
        "reviews of books",
        "amazon-book",
        18.2,
        (52_643, 91_599, 2_984_108),
        "the reviews are McAuley's Amazon collection's, to be cited",
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
    ),
    "lastfm-2k": NamedSet(
        "artists listened to",
        1_892,
        17_632,
        92_834,
        (Source("https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-2k.zip", 2.6, "user_artists.dat"),),
        "Not for commercial use; cite Last.fm and HetRec 2011 (Cantador et al.).",
        "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-lastfm-readme.txt",
    ),
}
"""By name. Counts are of the files as published; ratings count whatever they are."""


def named(name: str) -> NamedSet:
    """The entry of a name.

    Raises:
        InputError: there is none.
    """
    if name == "synthetic":
        raise InputError(f"'{name}' is embedded: there is nothing to fetch")
    if name not in CATALOGUE:
        raise InputError(
            f"'{name}' is not in the catalogue{nearest(name, CATALOGUE)}: use one of {', '.join(CATALOGUE)}"
        )
    return CATALOGUE[name]


def cache_folder() -> Path:
    """Where downloads are kept: CIESS_CACHE, or `ciess` in XDG_CACHE_HOME, or in `~/.cache`."""
    if own := os.environ.get("CIESS_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ciess"


def located(name: str) -> Path | None:
    """The folder of a named set on this machine: in the folder that CIESS_DATA names, or in the cache; None if neither.

    Raises:
        InputError: there is no such name.
    """
    named(name)
    own = os.environ.get("CIESS_DATA")
    places = [Path(own) / name] if own else []
    return next((place for place in [*places, _kept(name)] if place.is_dir()), None)


def fetch(name: str, *, accept_terms: bool = False, offline: bool = False, progress: Progress = silent) -> Path:
    """The folder of a named set, downloaded from its publisher unless it is here already.

    Args:
        name: of the catalogue.
        accept_terms: that you have read the publisher's terms, and keep them.
        offline: do not download.
        progress: told while it downloads.

    Raises:
        InputError: no such name, terms that are not accepted, or a download that fails; nothing is left half-written.
    """
    check("progress", progress, Callable)
    entry, found = named(name), located(name)
    if found is not None:
        return found
    if offline:
        raise InputError(f"{name} is not on this machine: fetch it once with a connection")
    if not accept_terms:
        raise InputError(
            f"{name} has terms ({entry.terms} {entry.terms_url}): read them and accept them, accept_terms=True"
        )
    kept, begun = _kept(name), _kept(f"{name}.part")
    try:
        begun.mkdir(parents=True, exist_ok=True)
        with FileLock(begun.with_suffix(".lock")):
            if not kept.is_dir():
                _fill(begun, entry, progress)
                os.replace(begun, kept)
    except OSError as error:
        raise InputError(
            f"{begun.parent} cannot be written ({error.strerror}): name another folder with CIESS_CACHE"
        ) from error
    return kept


def _kept(name: str) -> Path:
    return cache_folder() / "data" / name


def _fill(folder: Path, entry: NamedSet, progress: Progress) -> None:
    """Download all sources into a folder, and write down what they were; what an earlier run brought whole stays."""
    done = _done(folder)
    for each in entry.sources:
        kept = folder / (each.member or each.name)
        if each.url not in done or not kept.is_file() or checksum(kept) != done[each.url]["kept"]:
            found = _fetched(each, folder, progress)
            done[each.url] = {"url": each.url, "sha256": found, "kept": checksum(kept)}
            write_whole(folder / _DONE, json.dumps(done) + "\n")
    sources = [{name: done[each.url][name] for name in ("url", "sha256")} for each in entry.sources]
    about = {**asdict(entry), "sources": sources, "fetched": date.today().isoformat()}
    write_whole(folder / "source.json", json.dumps(about, indent=1) + "\n")
    for path in (folder / _DONE, *folder.glob("tmp*")):
        # Pooch leaves an empty file of such a name where it is killed.
        path.unlink()


def _done(folder: Path) -> dict[str, dict[str, str]]:
    """What of the sources, by their addresses, an earlier run brought whole: checksums of it and of what stays."""
    try:
        told: dict[str, dict[str, str]] = json.loads((folder / _DONE).read_text())
        return {url: {name: each[name] for name in ("url", "sha256", "kept")} for url, each in told.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _fetched(source: Source, folder: Path, progress: Progress) -> str:
    """Download a file, or the archive that it is in; the SHA-256 of what was downloaded."""
    path = folder / source.name
    most_bytes = int(_LARGER * source.megabytes * _MEGABYTE)
    md5 = published_md5(f"{source.url}.md5", folder / f"{source.name}.md5") if source.md5_beside else None
    download(source.url, path, most_bytes=most_bytes, md5=md5, phase=f"fetch {source.name}", progress=progress)
    found = checksum(path)
    if md5 is None:
        _compare_pin(source.url, found)
    if source.member:
        _unpack(path, source.member, folder, _UNPACKED * most_bytes)
        path.unlink()
        (folder / f"{source.name}.md5").unlink(missing_ok=True)
    return found


def _compare_pin(url: str, found: str) -> None:
    """Where no checksum is published, the first download's is remembered, so that a change does not pass unseen.

    Raises:
        InputError: the file is another one than at the first download.
    """
    path = _kept(_PINS)
    with refused(f"{path} is no list of checksums", "remove it, if you did not write it"):
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        pins = {url: pin for pin, url in (line.split() for line in lines if line.strip())}
    if pins.setdefault(url, found) != found:
        raise InputError(
            f"{url} is not the file that it was when it was first fetched: "
            f"find out why, then take its line out of {path} to accept it"
        )
    write_whole(path, "".join(f"{pin}  {url}\n" for url, pin in pins.items()))


def _unpack(archive: Path, member: str, folder: Path, most_bytes: int) -> None:
    """Take one file out of a zip archive, by its own name: paths in archives can lead anywhere.

    Raises:
        InputError: no archive, not one such file in it, or it is too large.
    """
    try:
        with refused(f"{archive.name} is not an archive that holds one {member}", "try again later"):
            files = ZipFile(archive)
            [entry] = [info for info in files.infolist() if PurePosixPath(info.filename).name == member]
            if entry.file_size <= most_bytes:
                # To its end, where its checksum stands: what fails after this is the disk.
                with files.open(entry) as packed:
                    while packed.read(_PIECE):
                        pass
    except InputError:
        archive.unlink()
        raise
    if entry.file_size > most_bytes:
        raise InputError(f"{member} in {archive.name} is {entry.file_size:,} bytes, too large: unpack it by hand")
    with files, files.open(entry) as packed, (folder / member).open("wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
