import zlib
from pathlib import Path

import pytest

from ciess.tables.files import MappedFile, checksum, checksum_of


def test_a_checksum_is_of_all_pieces_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciess.tables.files._BYTES_READ_AT_ONCE", 3)
    path, content = tmp_path / "some", b"eight of"
    path.write_bytes(content)
    assert checksum(path) == checksum_of(content) == MappedFile(path).checksum() == f"{zlib.crc32(content):08x}"
