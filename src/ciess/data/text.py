"""Text files with one interaction a line: unpacked, recognised by their content, read as text."""

import csv
import dataclasses
import re
from collections.abc import Iterable
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from ciess.data.columns import refuse_rows
from ciess.data.foreign import GZIP, ZSTD, check_unpacked, ungzipped, zstd_bound
from ciess.data.frames import Rows, Wanted, rows_of_table, usual_places
from ciess.data.quotes import Lines
from ciess.errors import InputError, refused
from ciess.files import check_file

PACKED = (".gz", ".zst")
TABLES = (".csv", ".tsv", ".inter", ".dat")
_BOM = b"\xef\xbb\xbf"
_OF_EXCEL = re.compile(rb'"?sep=[,;|\t]"?[ \r]*\n', re.IGNORECASE)
"""A first line that tells Excel what separates columns."""
NO_TEXT = r"\x00-\x08\x0e-\x1f"
"""Characters that no text holds, as in a regular expression."""
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\v\f\r"))
_DIGITS = b"0123456789 \t\r\n"
_NUMBERS = _DIGITS + b".+-eE"
_NO_LINE_HOLDS = "\x1f"
_HEADED = "add one, such as user,item,rating,time"
_MOVIELENS_COLUMNS = ["user", "item", "rating", "time"]
_USUAL = Wanted()
_SEPARATORS = ("\t", "::", ",", ";", "|")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d.*")
_TIME = re.compile(rf"\d{{9,}}(\.\d+)?|\d(\.\d+)?[eE]\+?(0?[89]|1\d)|{_DATE.pattern}")
_CLOCK = re.compile(r"\d\d?:\d\d")
_DATUM = re.compile(r"-\d+|[+-]?\d+\.\d+|\d{9,}")
"""What is a number, and no column's name: below 0, with decimals, or a time."""
_JSON = re.compile(rb"\s*(\{|\[\s*[\[{\"\d])")
_RECBOLE_TYPE = re.compile(r":(token|float)(_seq)?$")
_LIST_TYPE = ":token_seq"
_MOST_RATING = 100
_COMMENTS = re.compile(rb"#[^\n]*\n\s*#")
_COMMENT = re.compile(rb"^#[ \t]*(?=\S)")
"""The mark of a comment, before names of columns as NumPy writes them."""
_BLANK_LINE = re.compile(rb"\n[ \t\r]*(?=\n)")
_UNEVEN = re.compile(rb"\t|  |^ | $", re.MULTILINE)
_SPACE_IN_QUOTES = re.compile(rb'^(?:[^"\n]*"[^" \t\n]*")*[^"\n]*"[^"\n]*[ \t]', re.MULTILINE)
_OUTER_SPACES = re.compile(rb"^[ \t]+|[ \t\r]+$", re.MULTILINE)
_REPLACED, _NOT_UTF8 = "\ufffd", b"\xff"


def ending(path: Path) -> str:
    """The ending that tells the format, in lower case: `.csv` of `A.CSV.gz`."""
    name = path.with_suffix("") if path.suffix.lower() in PACKED else path
    return name.suffix.lower()


def content_of(path: Path) -> bytes:
    """What a text file holds, unpacked and without a byte order mark.

    Raises:
        InputError: it cannot be read, is empty or no text.
    """
    size = check_file(path, "a file with interactions")
    with refused(f"{path} cannot be read", "check that it is whole"):
        content = _unpacked(path, path.read_bytes() if size else b"").removeprefix(_BOM)
    if found := _OF_EXCEL.match(content):
        content = content[found.end() :]
    if not content.strip():
        raise InputError(f"{path} is empty: name a file with interactions")
    if b"\n" not in content:
        # As Macs once ended lines.
        content = content.replace(b"\r", b"\n")
    if len(content.translate(None, _CONTROLS)) < len(content):
        raise InputError(
            f"{path} is binary: name a text in UTF-8, packed as .gz or .zst or not, or a Parquet file that ends in "
            ".parquet"
        )
    return content


def _unpacked(path: Path, content: bytes) -> bytes:
    with refused(f"{path} cannot be unpacked", "check that it is whole"):
        if content.startswith(GZIP):
            return ungzipped(path, content)
        if content.startswith(ZSTD):
            check_unpacked(path, zstd_bound(content))
            # Python unpacks Zstandard from 3.14 on; polars does while it reads, and replaces what is not UTF-8.
            return "\n".join(lines_of(content)).encode().replace(_REPLACED.encode(), _NOT_UTF8)
    return content


def lines_of(content: bytes) -> pl.Series:
    """The lines of a text, packed or not, that are not blank."""
    lines = pl.read_csv(
        BytesIO(content),
        has_header=False,
        schema={"line": pl.String},
        separator=_NO_LINE_HOLDS,
        quote_char=None,
        encoding="utf8-lossy",
    )["line"]
    return lines.filter(lines.str.contains(r"\S"))


def widths(*contents: bytes) -> int:
    """How many different numbers of entries the lines of texts have."""
    return pl.concat([lines_of(content).str.count_matches(r"\S+") for content in contents]).n_unique()


def are_tabbed(files: Iterable[pl.Series]) -> bool:
    """Whether all lines of files have as many tabs, one at least: they are rows, of which some cells may be empty."""
    tabs = pl.concat([lines.str.count_matches("\t") for lines in files])
    return bool(tabs[0]) and tabs.n_unique() == 1


def is_digits(content: bytes) -> bool:
    """Whether there is nothing but whole numbers and spaces."""
    return not content.translate(None, _DIGITS)


def may_be_lines(path: Path, content: bytes) -> bool:
    """Whether a text file may be lines of whole numbers, of whatever meaning; else it is a table."""
    if ending(path) in TABLES:
        # Rows of users of whom none comes again are none, whatever the file is called.
        return is_digits(content) and b"\t" not in content and not _users_come_again(content)
    if not content.translate(None, _NUMBERS) and not is_digits(content):
        # Ratings with decimals or signs; where lines differ in length, reading them will tell which entry is wrong.
        return widths(content) != 1
    return all(token.isdigit() for token in content.lstrip().split(b"\n", 1)[0].split())


def _users_come_again(content: bytes) -> bool:
    return bool(lines_of(content).str.extract(r"(\d+)").is_duplicated().any())


def untyped(name: str) -> str:
    """A column's name without the type that RecBole writes behind it."""
    return _RECBOLE_TYPE.sub("", name)


def has_names(content: bytes, wanted: Wanted) -> bool:
    """Whether the first line names columns, one of users and one of items among them."""
    first = content.lstrip().split(b"\n", 1)[0]
    names = first.decode(errors="replace").strip("\r").split(separator_of(first, wanted))
    return _tell_both([untyped(name.strip(' "')) for name in names], wanted)


def rows_of_text(path: Path, content: bytes, wanted: Wanted, told: bool) -> Rows:
    """The interactions of a table in a text file: with a line of column names, or as MovieLens has them.

    Args:
        path: of the file.
        content: all of it.
        wanted: of the columns.
        told: whether the user says that it is a table; else all rows of one without column names are as long.

    Raises:
        InputError: no such table, or as `Interactions.from_frame`.
    """
    _refuse_others(path, content)
    text, separator, quoted = _separated(path, content, wanted)
    names, body = _named(path, text, separator, wanted, told)
    if body is text and not told:
        _refuse_uneven(path, text, separator)
    lines = Lines(path, content, body, len(names), separator)
    quoted = quoted and lines.has_quotes
    if quoted and separator == "\t":
        # Many programs separate by tabs and quote nothing.
        quoted = lines.are_proper() and not lines.may_break_rows()

    def take(places: list[int]) -> list[pl.Series]:
        return _columns(lines, places, quoted)

    # Named as the file has it, or without RecBole's type.
    roles = [role for role in ("user", "item", "rating", "time") if isinstance(getattr(wanted, role), str)]
    bare: dict[str, Any] = {role: untyped(getattr(wanted, role)) for role in roles}
    wanted = dataclasses.replace(wanted, **{role: name for role, name in bare.items() if name in names})
    return rows_of_table(names, take, wanted, untyped=True)


def _separated(path: Path, content: bytes, wanted: Wanted) -> tuple[bytes, str, bool]:
    """Lines that are not blank, what separates their columns, one byte, and whether quotes may enclose fields."""
    text = _COMMENT.sub(b"", _BLANK_LINE.sub(b"", b"\n" + content + b"\n")[1:])
    separator = separator_of(text.split(b"\n", 1)[0], wanted)
    if separator == "::":
        # Polars separates by one byte only.
        return text.replace(b"::", b"\t"), "\t", False
    quoted = ending(path) not in (".inter", ".dat")
    if separator != " " or not _UNEVEN.search(text):
        return text, separator, quoted
    if quoted:
        _refuse_spaces_in_quotes(path, content)
    return re.sub(rb"[ \t]+", b"\t", _OUTER_SPACES.sub(b"", text)), "\t", quoted


def _named(path: Path, text: bytes, separator: str, wanted: Wanted, told: bool) -> tuple[list[str], bytes]:
    """Column names, and the lines that hold data: all but the first, or all where they are as MovieLens has them.

    Where commas separate numbers, or users and items are text, only the user can tell that no line of names is missing.
    """
    line, body = text.split(b"\n", 1)
    with refused(f"{path} has no line of column names", _HEADED):
        header = line.decode(errors="replace").strip("\r")
        names = next(csv.reader([header], delimiter=separator, skipinitialspace=separator in ",;|"))
    typed = [name.strip() for name in names]
    _refuse_list_types(path, typed, wanted)
    names = [untyped(name) for name in typed]
    numbers = all(name.removeprefix("-").replace(".", "").isdigit() for name in names[:2])
    values = numbers or len(names) == 2 or any(_NUMBER.fullmatch(name) or _TIME.fullmatch(name) for name in names[2:])
    named = _tell_both(names, wanted) or _tell_both(typed, wanted)
    if told and not (values or named):
        raise InputError(f"{path} begins with {', '.join(names)}, which may be names or data: {_HEADED}")
    told = told and not named
    places = _places_of(names)
    if ((numbers and separator not in ",;|") or told) and places:
        return places, text
    if numbers or told or _are_data(names, wanted):
        few = "" if told else ", or, if its columns come in this order, say by the layout that it is a table"
        more = f"; a layout is of {len(_MOVIELENS_COLUMNS)} columns at most, and these are {len(names)}"
        beyond = more if len(names) > len(_MOVIELENS_COLUMNS) else few
        raise InputError(f"{path} has no line of column names: {_HEADED}{beyond}")
    return names, body


def _places_of(values: list[str]) -> list[str]:
    """What stands where in rows without column names, by the values of the first; nothing where it cannot be known."""
    if not 2 <= len(values) <= len(_MOVIELENS_COLUMNS) or any(_DATE.fullmatch(value) for value in values[:2]):
        return []
    if len(values) > 2 and _TIME.fullmatch(values[2]):
        rated = len(values) == 3 or (_NUMBER.fullmatch(values[3]) and float(values[3]) <= _MOST_RATING)
        if rated:
            return ["user", "item", "time", "rating"][: len(values)]
        if _CLOCK.match(values[3]):
            # A space within a date.
            return []
    return _MOVIELENS_COLUMNS[: len(values)]


def _refuse_list_types(path: Path, names: list[str], wanted: Wanted) -> None:
    """Refuse RecBole's lists of ids in the place of an id.

    Raises:
        InputError: a column of users or items has this type.
    """
    for name, role in product(names, ("user", "item")):
        bare, told = untyped(name), getattr(wanted, role)
        meant = told in (name, bare) if told is not None else usual_places([bare], role)
        if name.endswith(_LIST_TYPE) and meant:
            raise InputError(f"{path} has lists in column '{name}': write one interaction a line")


def _refuse_uneven(path: Path, text: bytes, separator: str) -> None:
    """Refuse rows without column names that are not all as long: they are not what their places say.

    Raises:
        InputError: they are not.
    """
    if lines_of(text).str.count_matches(separator, literal=True).n_unique() > 1:
        raise InputError(
            f"{path} has no line of column names, and lines of different lengths: {_HEADED}, "
            "or say by the layout, lines or table, what they are"
        )


def _refuse_others(path: Path, content: bytes) -> None:
    """Refuse what other programs write and is no table.

    Raises:
        InputError: it is JSON, or begins with a comment of KONECT or Matrix Market.
    """
    if _JSON.match(content):
        raise InputError(f"{path} holds JSON, and no column of users or items: convert it to .csv or .parquet")
    if content.startswith(b"%%MatrixMarket"):
        raise InputError(
            f"{path} is of Matrix Market: read it by scipy.io.mmread, and write it by scipy.sparse.save_npz"
        )
    if content.startswith((b"%", b"//")) or _COMMENTS.match(content):
        raise InputError(
            f"{path} begins with comments: put a line of column names in their place, such as user,item,rating,time"
        )


def _refuse_spaces_in_quotes(path: Path, content: bytes) -> None:
    """Refuse what would be taken apart, or be joined with what differs by spaces alone.

    Raises:
        InputError: there are spaces between quotes, where any number of spaces separates columns.
    """
    if found := _SPACE_IN_QUOTES.search(content):
        line = content.count(b"\n", 0, found.start()) + 1
        raise InputError(
            f"{path}, line {line}: spaces stand within quotes, where several spaces or tabs separate columns: "
            "separate them by commas, by tabs alone, or by one space each"
        )


def _are_data(names: list[str], wanted: Wanted) -> bool:
    """Whether what is named as columns are values of the first row."""
    named = {wanted.user, wanted.item, wanted.rating, wanted.time}
    numbers = any(name in named and _NUMBER.fullmatch(name) for name in names)
    return numbers or (named != {None} and any(_DATUM.fullmatch(name) for name in names))


def _tell_both(names: list[str], wanted: Wanted) -> bool:
    """Whether names are those of columns, one of users and one of items among them."""
    return all(getattr(wanted, role) in names or usual_places(names, role) for role in ("user", "item"))


def separator_of(first: bytes, wanted: Wanted = _USUAL) -> str:
    """What separates columns, by the first line; spaces where there is nothing else."""
    for each in _SEPARATORS:
        names = [name.strip(' "\r') for name in first.decode(errors="replace").split(each)]
        if _tell_both([untyped(name) for name in names], wanted):
            return each
    for clear in _SEPARATORS[:2]:
        if clear.encode() in first:
            return clear
    counts = {each: first.count(each.encode()) for each in _SEPARATORS[2:]}
    most = max(counts, key=lambda each: counts[each])
    return most if counts[most] else " "


def _columns(lines: Lines, places: list[int], quoted: bool) -> list[pl.Series]:
    """Columns as text, without spaces around it, in the order of their rising places."""
    if not quoted:
        found = _by_polars(lines, places, None)
    elif lines.separator == "\t" or lines.are_proper():
        found = _by_polars(lines, places, '"')
    else:
        found = lines.columns(places)
        if _any_replaced(found) and not _is_utf8(lines.body):
            raise InputError(_no_utf8(lines.path))
    if quoted:
        lines.refuse_rows_within(found)
    return [column.str.strip_chars() for column in found]


def _by_polars(lines: Lines, places: list[int], quote: str | None) -> list[pl.Series]:
    """Columns as polars reads them, where there are no quotes or all are proper."""
    # A column more than there are: polars itself counts the entries of a line only where it reads all columns.
    header = lines.separator.join(map(str, range(lines.width + 1))).encode() + b"\n"
    for encoding in ("utf8", "utf8-lossy"):
        try:
            table = pl.read_csv(
                BytesIO(header + lines.body),
                columns=[*places, lines.width],
                infer_schema=False,
                separator=lines.separator,
                quote_char=quote,
                encoding=encoding,
            )
        except pl.exceptions.PolarsError as error:
            reason = str(error).split("\n", 1)[0]
            if "utf-8" in reason:
                continue
            raise InputError(f"{lines.path} cannot be read as a table ({reason}): fix it") from error
        *found, beyond = table
        refuse_rows((beyond.str.strip_chars() != "").fill_null(False), f"{lines.path} has more entries than columns")
        # Letters of other encodings do no harm where they are not needed.
        if encoding != "utf8" and _any_replaced(found):
            break
        return found
    raise InputError(_no_utf8(lines.path))


def _any_replaced(columns: list[pl.Series]) -> bool:
    return any(column.str.contains(_REPLACED, literal=True).any() for column in columns)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _no_utf8(path: Path) -> str:
    return f"{path} is not UTF-8 text: save it as UTF-8"
