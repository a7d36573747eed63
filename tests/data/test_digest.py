from hashlib import sha256
from pathlib import Path

from twotower.data.digest import file_sha256


def test_a_file_is_hashed_block_by_block(tmp_path: Path) -> None:
    content, pauses = bytes(range(256)) * 2500, []
    (tmp_path / "file").write_bytes(content)
    found = file_sha256(tmp_path / "file", lambda: pauses.append(1))
    assert found == file_sha256(tmp_path / "file") == sha256(content).hexdigest()
    assert len(pauses) == 3
