"""Files with secrets are their owner's alone, whatever lay there before."""

from pathlib import Path

import pytest

from services.sandbox_exchange.files import write_file


@pytest.mark.parametrize("is_link", [False, True])
def test_a_leftover_does_not_open_the_next_file_to_others(tmp_path: Path, is_link: bool) -> None:
    path, leftover, elsewhere = tmp_path / "key", tmp_path / ".key.new", tmp_path / "elsewhere"
    if is_link:
        leftover.symlink_to(elsewhere)
    else:
        leftover.touch(mode=0o644)
    write_file(path, b"secret")
    assert path.read_bytes() == b"secret"
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not elsewhere.exists()
    assert list(tmp_path.iterdir()) == [path]
