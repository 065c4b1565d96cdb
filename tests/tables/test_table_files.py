import zlib
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from ciess.tables.files import MappedFile, _metadata, checksum, checksum_of, file_bytes, write_arrays


def test_a_checksum_is_of_all_pieces_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ciess.tables.files._BYTES_READ_AT_ONCE", 3)
    path, content = tmp_path / "some", b"eight of"
    path.write_bytes(content)
    assert checksum(path) == checksum_of(content) == MappedFile(path).checksum() == f"{zlib.crc32(content):08x}"


@pytest.mark.parametrize("about", ["", "1", "12", "123", "é", "1234567"])
def test_files_are_those_of_safetensors_byte_for_byte(about: str, tmp_path: Path) -> None:
    arrays = {
        "codes": np.arange(5, dtype=np.uint8),
        "values": np.arange(6, dtype=np.float32).reshape(2, 3),
        "offsets": np.arange(3, dtype=np.int64),
    }
    write_arrays(tmp_path / "some", arrays, about)
    content = (tmp_path / "some").read_bytes()
    assert content == save(arrays, _metadata(about))
    assert int.from_bytes(content[:8], "little") % 8 == 0
    layout = {name: (array.dtype, list(array.shape)) for name, array in arrays.items()}
    assert file_bytes(layout, about) == len(content)
