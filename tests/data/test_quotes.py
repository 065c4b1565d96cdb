import csv
import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ciess.data import Interactions, read
from ciess.data.convert import convert
from ciess.data.quotes import Lines
from ciess.errors import InputError


def found(path: Path, content: str) -> list[tuple[object, object]]:
    path.write_text(content, newline="")
    data: Interactions = read(path)
    return sorted(
        (data.user_ids[int(user)], data.item_ids[int(item)]) for user, item in zip(data.users, data.items, strict=True)
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('user,item,x\n1,10,Monitor 24" black\n2,11,Mouse\n', [(1, 10), (2, 11)]),
        ('user,item,x\n1,a,x 24"\n2,b,"y, 25"\n', [(1, "a"), (2, "b")]),
        ('user,item,x\n1,a"b,"x, y"\n2,"c, ""d""",z\n', [(1, 'a"b'), (2, 'c, "d"')]),
        ('user,item,x\r\n1,a"b,"x, y"\r\n2,"3"\r\n', [(1, 'a"b'), (2, "3")]),
        ('user,item,x\n1,a""b,"two\nlines"\n2,3,4\n', [(1, 'a""b'), (2, "3")]),
        ('user,item,x\n1,2,"two\nlines, ""quoted"", with, more, commas"\n3,4,\n', [(1, 2), (3, 4)]),
        ('user,item\n1,24",\n2,x,\n', [(1, '24"'), (2, "x")]),
        ('user;item\n1;24" black\n2;x\n', [(1, '24" black'), (2, "x")]),
    ],
    ids=[
        "inch",
        "inch beside quoted",
        "both",
        "returns",
        "lines beside doubled",
        "lines",
        "nothing beyond",
        "semicolons",
    ],
)
def test_a_quote_within_a_field_is_a_letter(
    tmp_path: Path, content: str, expected: list[tuple[object, object]]
) -> None:
    assert found(tmp_path / "own.csv", content) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('user\titem\n1\t"Heroes\n2\tABBA\n3\tLow"\n4\tx\n', [(1, '"Heroes'), (2, "ABBA"), (3, 'Low"'), (4, "x")]),
        ('user\titem\tx\n1\t"Heroes\t5\n2\tLow"\t4\n', [(1, '"Heroes'), (2, 'Low"')]),
        ('user\titem\n1\t"Weird Al" Yankovic\n2\tx\n', [(1, '"Weird Al" Yankovic'), (2, "x")]),
        ('user\titem\n1\t"Heroes"\n2\t12" mix\n', [(1, '"Heroes"'), (2, '12" mix')]),
        ('user\titem\n1\t"Heroes\n2\tx\n', [(1, '"Heroes'), (2, "x")]),
        ('user\titem\tx\n1\t"two\nlines"\ta\n2\t"b ""c"""\td\n', [(1, "two\nlines"), (2, 'b "c"')]),
        ('user\titem\n1\t"a\tb"\n', [(1, "a\tb")]),
    ],
    ids=["rows within", "rows across", "within", "mixed", "one", "lines", "a tab"],
)
def test_tabs_with_quotes_that_enclose_no_fields(
    tmp_path: Path, content: str, expected: list[tuple[object, object]]
) -> None:
    """By hand: no interaction vanishes in quotes that a program wrote which quotes nothing."""
    assert found(tmp_path / "own.tsv", content) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('user,item\n\n1,2\n \n1,"Weird Al" Yankovic\n', "own.csv, line 5: a quote begins a field and does not end it"),
        ('user,item\n1,2\n1,"Weird Al\n2,x\n', "own.csv, line 3: a quote begins a field and does not end it"),
        (
            'user,item\n1,"Heroes\n2,ABBA\n3,Low"\n',
            "own.csv has quotes around a line break and what may be a row .* row 1",
        ),
        ('user,item\n1,a"b\n1,2,3\n', "own.csv has more entries than columns in row 2"),
    ],
    ids=["goes on", "open", "rows within", "ragged"],
)
def test_quotes_that_stay_doubtful_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        found(tmp_path / "own.csv", content)


@pytest.mark.parametrize("row", ['1  "New York"', '1 "New  York"', '1\t"New York" ', '"1" "2"\t" x"', '1  12" or 7"'])
def test_spaces_in_quotes_between_uneven_spaces_are_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError, match=r"own.txt, line 4: spaces stand within quotes, .*: separate them by commas"):
        found(tmp_path / "own.txt", f'user item\n\n1 "York"\n{row}\n')


def test_quotes_between_spaces(tmp_path: Path) -> None:
    text = '"user" "item"\n"1" "New York"\n2 York\n'
    assert found(tmp_path / "own.txt", text) == [(1, "New York"), (2, "York")]
    assert found(tmp_path / "own.txt", '"user"  "item"\n"1"\t"York"\n 2  "a"\n') == [(1, "York"), (2, "a")]


def test_rows_are_counted_over_all_that_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciess.data.quotes._ROWS_AT_ONCE", 2)
    rows = [(user, f'{user}"') for user in range(5)]
    text = "user,item\n" + "".join(f"{user},{item}\n" for user, item in rows)
    assert found(tmp_path / "own.csv", text) == rows
    with pytest.raises(InputError, match="more entries than columns in row 6"):
        found(tmp_path / "own.csv", text + "1,2,3\n")


def test_letters_of_another_encoding_beside_a_quote(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_bytes(b'user,item,x\n1,a"b,caf\xe9\n')
    assert read(path).item_ids.to_list() == ['a"b']
    path.write_bytes(b'user,item,x\n1,a"\xe9,x\n')
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read(path)
    assert found(path, 'user,item,x\n1,a"\ufffd,x\n') == [(1, 'a"\ufffd')]


def test_no_id_is_written_that_would_be_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [1, 2], "item": ["two\nlines", "x"]})
    assert read(convert(frame, tmp_path / "own.csv")).item_ids.to_list() == ["two\nlines", "x"]
    frame = frame.with_columns(item=pl.Series(["two\nlines, twice", "x"]))
    with pytest.raises(InputError, match="would not be the same when it is read"):
        convert(frame, tmp_path / "own.csv")


def _is_read(text: str) -> bool:
    try:
        list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        return False
    return True


@given(st.lists(st.tuples(*[st.text('",a\n', max_size=4)] * 2), min_size=1, max_size=4), st.booleans())
def test_what_a_program_quotes_is_proper(rows: list[tuple[str, str]], all_quoted: bool) -> None:
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if all_quoted else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator="\n", quoting=quoting).writerows(rows)
    body = text.getvalue().encode()
    lines = Lines(Path("own.csv"), b"a,b\n" + body, body, 2, ",")
    assert lines.are_proper()
    assert [tuple(row) for row in zip(*lines.columns([0, 1]), strict=True)] == rows


@given(st.text('",a\n', max_size=12))
def test_quotes_are_proper_where_python_reads_them_and_none_is_bare(text: str) -> None:
    text += "\n"
    bare = any('"' in field for field in _outside_quotes(text))
    proper = Lines(Path("own.csv"), b"", text.encode(), 2, ",").are_proper()
    assert proper == (_is_read(text) and not bare)


def _outside_quotes(text: str) -> list[str]:
    """What is left of fields that are not quoted, letter by letter."""
    fields, field, quoted, place = [], "", False, 0
    while place < len(text):
        letter = text[place]
        if quoted:
            if text[place : place + 2] == '""':
                place += 1
            elif letter == '"':
                quoted = False
        elif letter in ",\n":
            fields.append(field)
            field = ""
        elif letter == '"' and not field:
            quoted = True
        else:
            field += letter
        place += 1
    return fields
