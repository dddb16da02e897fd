import multiprocessing
import os
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.execution.books import Books
from services.execution.core.booking import book_report, book_state
from services.execution.core.orders import new_order
from services.execution.journal import Journal
from shared.domain.ledger import Ledger
from shared.errors import ConfigError, IntegrityError
from shared.messages import OrderState
from tests.unit.execution.rig import IDENTITY
from tests.unit.execution.samples import approve, fill, intent, report

HOLD = """
import sys, time
from pathlib import Path
from services.execution.journal import Journal
journal = Journal(Path(sys.argv[1]), {"venue": "paper", "account": "paper", "quote_asset": "USDT"})
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "execution.sqlite3"


def filled(path: Path) -> None:
    journal = Journal(path, IDENTITY)
    books = Books(journal, "USDT")
    books.open_account("initial", Decimal(1_000))
    approval = approve(intent(quantity="1"))
    order = books.commit(
        book_state(new_order(approval), OrderState.SUBMITTED, "", 1, 1), approval_id=approval.approval_id, at_ns=1
    )
    found = report(approval, OrderState.PARTIALLY_FILLED, fill(1, fee="0.0000001"), fill(2))
    books.commit(book_report(order, found, books.ledger, 2), at_ns=2)
    journal.close()


def test_what_was_written_is_read_back_to_the_last_digit(path: Path) -> None:
    filled(path)
    journal = Journal(path, IDENTITY)
    books = Books(journal, "USDT")
    order = books.open_orders()[0]
    assert (order.state, order.filled_quantity) == (OrderState.PARTIALLY_FILLED, Decimal("0.5"))
    assert order.fills == (fill(1, fee="0.0000001"), fill(2))
    assert books.ledger.balances() == {"BTC": Decimal("0.4999999"), "USDT": Decimal(950)}
    assert [event.state for _, event in journal.unpublished(9)] == [OrderState.SUBMITTED] + [order.state] * 2
    assert journal.approval_used_by("approval-intent-1") == "intent-1"
    assert books.order_at_venue(order.client_order_id, "") == order
    assert books.order_at_venue(None, order.venue_order_id or "") == order
    assert books.order_at_venue(None, "unheard of") is None
    journal.close()


def test_amounts_are_texts_with_every_digit(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as database:
        row = database.execute("SELECT price, quantity, fee, typeof(fee) FROM ledger_entries WHERE sequence = 2")
        assert row.fetchone() == ("100", "0.25", "0.0000001", "text")
    database.close()


def test_a_step_that_fails_leaves_nothing(path: Path) -> None:
    journal = Journal(path, IDENTITY)
    with pytest.raises(RuntimeError), journal.step():
        journal.use_approval("a", "i")
        raise RuntimeError("died")
    assert journal.approval_used_by("a") is None
    journal.close()


def test_a_durable_step_is_synced_whatever_the_step_before_was(path: Path) -> None:
    journal = Journal(path, IDENTITY)
    full, normal = 2, 1
    for durable in (True, False, False, True, True, False, True):
        with journal.step(durable=durable):
            level = journal._open.execute("PRAGMA synchronous").fetchone()[0]
            assert level == (full if durable else normal)
    journal.close()


def test_an_approval_cannot_be_used_twice_even_by_mistake(path: Path) -> None:
    filled(path)
    journal = Journal(path, IDENTITY)
    books = Books(journal, "USDT")
    other = book_state(new_order(approve(intent(2))), OrderState.SUBMITTED, "", 1, 1)
    with pytest.raises(sqlite3.IntegrityError):
        books.commit(other, approval_id="approval-intent-1", at_ns=1)
    with pytest.raises(RuntimeError):
        books.commit(other, approval_id="approval-intent-2", at_ns=1)
    assert journal.order("intent-2") is None
    journal.close()


def test_a_second_process_is_refused_by_name_and_let_in_when_the_first_is_killed(path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    with pytest.raises(ConfigError, match=f"another execution process .pid {first.pid}."):
        Journal(path, IDENTITY)
    first.kill()
    first.communicate()
    Journal(path, IDENTITY).close()


def test_two_owners_in_one_process_are_refused_too(path: Path) -> None:
    journal = Journal(path, IDENTITY)
    with pytest.raises(ConfigError, match="another execution process"):
        Journal(path, IDENTITY)
    journal.close()


@pytest.mark.parametrize("key", ["venue", "account", "quote_asset"])
def test_another_accounts_journal_is_refused(path: Path, key: str) -> None:
    Journal(path, IDENTITY).close()
    with pytest.raises(ConfigError, match=f"has {key} '{IDENTITY[key]}', this configuration wants 'other'"):
        Journal(path, IDENTITY | {key: "other"})
    Journal(path, IDENTITY).close()


def test_a_damaged_page_is_noticed_wherever_it_is(path: Path) -> None:
    filled(path)
    whole = path.read_bytes()
    for offset in range(0, len(whole), 4096):
        damage = bytes(byte ^ 0xFF for byte in whole[offset : offset + 64])
        path.write_bytes(whole[:offset] + damage + whole[offset + 64 :])
        with pytest.raises(ConfigError, match="damaged"):
            Journal(path, IDENTITY)
    path.write_bytes(whole)
    Journal(path, IDENTITY).close()


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to look like something" * 100, b"SQLite format 3\0"]
)
def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="damaged"):
        Journal(path, IDENTITY)


def test_a_truncated_journal_is_refused(path: Path) -> None:
    filled(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ConfigError, match="damaged"):
        Journal(path, IDENTITY)


def test_a_database_of_something_else_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE notes (text TEXT)")
    database.close()
    with pytest.raises(ConfigError, match="no journal of execution"):
        Journal(path, IDENTITY)


def test_a_ledger_with_a_missing_entry_is_refused(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM ledger_entries WHERE sequence = 2")
    database.close()
    journal = Journal(path, IDENTITY)
    with pytest.raises(IntegrityError, match="entry 2 is missing"):
        Books(journal, "USDT")
    journal.close()


def test_an_order_whose_fill_is_not_in_the_ledger_is_refused(path: Path) -> None:
    filled(path)
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM ledger_entries WHERE sequence = 3")
    database.close()
    journal = Journal(path, IDENTITY)
    with pytest.raises(IntegrityError, match="is not in the ledger"):
        Books(journal, "USDT")
    journal.close()


def _die_within_a_step(path: Path) -> None:
    journal = Journal(path, IDENTITY)
    with journal.step():
        journal.use_approval("half", "done")
        os._exit(9)


def test_a_process_that_dies_within_a_step_leaves_the_journal_whole(path: Path) -> None:
    filled(path)
    worker = multiprocessing.get_context("fork").Process(target=_die_within_a_step, args=(path,))
    worker.start()
    worker.join(10)
    assert worker.exitcode == 9
    journal = Journal(path, IDENTITY)
    assert journal.approval_used_by("half") is None
    assert Books(journal, "USDT").ledger.sequence == 3
    journal.close()


def test_an_opened_account_keeps_its_first_deposit(path: Path) -> None:
    journal = Journal(path, IDENTITY)
    assert Books(journal, "USDT").open_account("initial", Decimal(500)) == 500
    assert Books(journal, "USDT").open_account("initial", Decimal(900)) == 500
    assert Books(journal, "USDT").ledger.balances() == {"USDT": Decimal(500)}
    journal.close()


def test_incidents_stay_open_until_a_person_resolves_them_and_come_back(path: Path) -> None:
    journal = Journal(path, IDENTITY)
    for _ in range(2):
        with journal.step():
            journal.add_incident("k", "something is wrong", 1)
    assert journal.open_incidents() == ["something is wrong"]
    with journal.step():
        assert journal.resolve_incidents() == 1
    assert journal.open_incidents() == []
    with journal.step():
        journal.add_incident("k", "something is wrong", 1)
    assert journal.open_incidents() == ["something is wrong"]
    journal.close()


def test_an_order_round_trips_through_json_text() -> None:
    approval = approve(intent(quantity="1", limit="90", bound="95"))
    ledger = Ledger("USDT")
    ledger.book_deposit("x", Decimal(1_000), 0)
    order = book_report(
        msgspec.structs.replace(new_order(approval), state=OrderState.SUBMITTED),
        report(approval, OrderState.CANCELED, fill(1), filled="0.5"),
        ledger,
        1,
    ).order
    assert msgspec.json.decode(msgspec.json.encode(order), type=type(order)) == order


def test_a_price_that_went_missing_stays_missing_after_a_restart(path: Path) -> None:
    journal = Journal(path, IDENTITY)
    books = Books(journal, "USDT")
    books.see_close("A-USDT", Decimal(1), 1)
    books.close_step(2, ("A-USDT",))
    assert books.marks() == {}
    journal.close()
    again = Journal(path, IDENTITY)
    assert Books(again, "USDT").marks() == {}
    again.close()
