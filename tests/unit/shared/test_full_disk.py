"""A full disk is told from everything else, and what stood on it goes on when there is space."""

import errno
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from services.execution.journal import Journal
from services.risk.store import RiskStore
from shared.errors import ConfigError, StoreUnavailableError, UnavailableError
from shared.full_disk import has_no_space, is_full_disk
from shared.testing.small_disk import fill, make_space, small_disk

IDENTITY = {"venue": "paper", "account": "a", "quote_asset": "USDT"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", size_kb=1_024) as folder:
        yield folder


def test_numbers_of_the_operating_system_name_it(tmp_path: Path) -> None:
    assert is_full_disk(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert is_full_disk(OSError(errno.EDQUOT, "Disk quota exceeded"), tmp_path)
    assert not is_full_disk(OSError(errno.EACCES, "Permission denied"), tmp_path)
    assert not is_full_disk(None, tmp_path)


def test_what_was_made_of_it_still_names_it(tmp_path: Path) -> None:
    def refuse() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise ConfigError("key file: No space left on device") from error

    with pytest.raises(ConfigError) as told:
        refuse()
    assert is_full_disk(told.value, tmp_path)


def test_a_database_in_trouble_for_another_reason_is_none(tmp_path: Path) -> None:
    (tmp_path / "broken").write_bytes(b"this is no database" * 1_000)
    database = sqlite3.connect(tmp_path / "broken")
    with pytest.raises(sqlite3.DatabaseError) as broken:
        database.execute("CREATE TABLE t (x)")
    with pytest.raises(sqlite3.OperationalError) as absent:
        sqlite3.connect(tmp_path / "no" / "folder")
    assert not is_full_disk(broken.value, tmp_path)
    assert not is_full_disk(absent.value, tmp_path)
    assert not has_no_space(tmp_path / "nowhere")
    database.close()


def test_a_journal_on_a_full_disk_writes_nothing_and_is_whole_afterwards(disk: Path) -> None:
    journal = Journal(disk / "execution.sqlite3", IDENTITY)
    with journal.step():
        journal.save_mark("A-USDT", Decimal(1), 1)
    fill(disk)
    with pytest.raises(sqlite3.OperationalError) as told:
        for number in range(10_000):
            with journal.step():
                journal.add_incident(f"key {number}", "x" * 1_000, number)
    assert is_full_disk(told.value, disk)
    kept = len(journal.open_incidents())
    journal.close()
    make_space(disk)
    again = Journal(disk / "execution.sqlite3", IDENTITY)
    assert len(again.open_incidents()) == kept
    assert again.marks() == {"A-USDT": (Decimal(1), 1)}
    again.close()


def test_a_journal_that_cannot_be_opened_for_want_of_space_is_not_called_damaged(disk: Path) -> None:
    Journal(disk / "execution.sqlite3", IDENTITY).close()
    fill(disk)
    with pytest.raises((StoreUnavailableError, OSError)) as told:
        Journal(disk / "execution.sqlite3", IDENTITY)
    assert is_full_disk(told.value, disk)
    make_space(disk)
    Journal(disk / "execution.sqlite3", IDENTITY).close()


def test_the_gate_on_a_full_disk_keeps_nothing_half_and_opens_again(disk: Path) -> None:
    store = RiskStore(disk / "risk.db")
    store.put("trading", "state", b"HALTED")
    fill(disk)
    with pytest.raises(sqlite3.OperationalError) as told:
        for number in range(10_000):
            with store.transaction():
                store.put("facts", str(number), bytes(1_000))
    assert is_full_disk(told.value, disk)
    kept = len(store.facts("facts"))
    store.close()
    fill(disk)
    with pytest.raises(UnavailableError, match="the disk is full"):
        RiskStore(disk / "risk.db")
    make_space(disk)
    again = RiskStore(disk / "risk.db")
    assert (len(again.facts("facts")), again.fact("trading", "state")) == (kept, b"HALTED")
    again.close()
