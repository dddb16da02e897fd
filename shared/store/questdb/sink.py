"""The server as the writer sees it: frames in, schema and health over HTTP.

In: frames. Out: rows in QuestDB's write-ahead log, or an error that says whether to try again. Never: a value in a
statement (statements are our own names alone), a table that the server makes up, an endless wait, a password in a log.
"""

import base64
import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec
import pyarrow as pa

from shared.errors import ConfigError, RejectedError, StoreUnavailableError
from shared.store.questdb.frame import pandas_of, table_name
from shared.store.questdb.schema import (
    FIRST_VIEW,
    TIME,
    add_column_ddl,
    columns_ddl,
    defer_ddl,
    refresh_ddl,
    table_ddl,
    views_ddl,
)
from shared.store.tables import TABLES, Table

if TYPE_CHECKING:
    from questdb import Sender

HEALTH_TIMEOUT_S = 2.0
DDL_TIMEOUT_S = 30.0
LAG_TRANSACTIONS_MAX = 2_000


class Condition(msgspec.Struct, frozen=True):
    """Tell how the server does. `suspended` tables take rows and show none of them; `lag` counts transactions."""

    is_reachable: bool
    suspended: tuple[str, ...] = ()
    invalid_views: tuple[str, ...] = ()
    lag: int = 0
    reason: str = ""

    @property
    def is_healthy(self) -> bool:
        """Tell whether what is written becomes visible."""
        return self.is_reachable and not self.suspended and not self.invalid_views and self.lag <= LAG_TRANSACTIONS_MAX

    @property
    def detail(self) -> str:
        """Return a sentence for people."""
        if not self.is_reachable:
            return f"QuestDB does not answer: {self.reason}"
        if self.suspended:
            return f"QuestDB does not apply what it takes: {', '.join(self.suspended)} suspended ({self.reason})"
        if self.invalid_views:
            return f"QuestDB no longer refreshes {', '.join(self.invalid_views)} ({self.reason})"
        if self.lag > LAG_TRANSACTIONS_MAX:
            return f"QuestDB is {self.lag} transactions behind what it took"
        return "QuestDB runs"


class Sink(Protocol):
    """Take frames. All methods block, with a bound."""

    def prepare(self) -> None:
        """Create what is missing of the schema; raises StoreUnavailableError, or ConfigError when it does not fit."""
        ...

    def send(self, frames: Sequence[pa.Table]) -> None:
        """Put frames into the server's log; raises StoreUnavailableError, or RejectedError when a row is refused."""
        ...

    def refresh(self) -> bool:
        """Have the server make bars of new trades and tell whether there were none; raises StoreUnavailableError."""
        ...

    def condition(self) -> Condition:
        """Ask how the server does; never raises."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class QuestdbSink:
    """Talk to the server at `url` (`http://host:port`)."""

    def __init__(self, url: str, user: str, password_file: Path, *, timeout_s: float = 30.0) -> None:
        self._url, self._user, self._password_file = url.rstrip("/"), user, password_file
        self._timeout_s = timeout_s
        self._sender: Sender | None = None

    def prepare(self) -> None:
        """Create missing tables, columns and views; raises ConfigError when a table has another type or other keys."""
        for table in TABLES:
            self._execute(table_ddl(table))
            self._compare(table)
        for statement in views_ddl():
            self._execute(statement)
        asked = f"SELECT refresh_type FROM materialized_views() WHERE view_name = '{FIRST_VIEW}'"  # noqa: S608 - our own name
        if self._query(asked) == [["immediate"]]:
            self._execute(defer_ddl())

    def send(self, frames: Sequence[pa.Table]) -> None:
        """Send frames in one request; raises StoreUnavailableError or RejectedError."""
        from questdb import QuestDBError, QuestDBErrorCode  # noqa: PLC0415 - an extra

        try:
            # An idle sender has length 0, so `or` would make a new one each time.
            sender = self._sender = self._connected() if self._sender is None else self._sender
            # A buffer of our own: after an error nothing of it is left to be sent with the next one.
            buffer = sender.new_buffer()
            for frame in frames:
                name = table_name(frame)
                buffer.dataframe(pandas_of(frame), table_name=name, at=TIME)
            sender.flush(buffer)
        except QuestDBError as error:
            if error.code is QuestDBErrorCode.ServerFlushError and _is_about_rows(str(error)):
                raise RejectedError("line_protocol", _short(str(error))) from error
            if error.code in (
                QuestDBErrorCode.InvalidName,
                QuestDBErrorCode.InvalidTimestamp,
                QuestDBErrorCode.InvalidUtf8,
                QuestDBErrorCode.BadDataFrame,
                QuestDBErrorCode.ArrayError,
            ):
                raise RejectedError(error.code.name, _short(str(error))) from error
            if error.code is QuestDBErrorCode.AuthError:
                self.close()  # the password file may be another one by now
            raise StoreUnavailableError(_short(str(error))) from error

    def refresh(self) -> bool:
        """Ask for bars of all trades that are applied; False while some are not in them yet: ask again."""
        # What the log holds and the table does not yet is in no bar either.
        asked = (
            "SELECT sequencerTxn > refresh_base_table_txn FROM materialized_views() JOIN wal_tables() "  # noqa: S608 - our own name
            f"ON name = base_table_name WHERE view_name = '{FIRST_VIEW}'"
        )
        if self._query(asked) != [[True]]:
            return True
        self._ask(refresh_ddl(), HEALTH_TIMEOUT_S)
        return False

    def condition(self) -> Condition:
        """Ask for suspended tables, views that stopped, and the lag."""
        try:
            tables = self._query("SELECT name, suspended, sequencerTxn - writerTxn, errorMessage FROM wal_tables()")
            views = self._query(
                "SELECT view_name, invalidation_reason FROM materialized_views() WHERE view_status = 'invalid'"
            )
        except StoreUnavailableError as error:
            return Condition(is_reachable=False, reason=str(error))
        suspended = [row for row in tables if row[1]]
        reasons = [str(row[-1]) for row in (*suspended, *views) if row[-1]]
        return Condition(
            is_reachable=True,
            suspended=tuple(str(row[0]) for row in suspended),
            invalid_views=tuple(str(row[0]) for row in views),
            lag=max((int(str(row[2])) for row in tables if row[2] is not None), default=0),
            reason=_short("; ".join(reasons)) or "no reason given",
        )

    def close(self) -> None:
        """Let go of the connection."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close(False)

    def _connected(self) -> "Sender":
        from questdb import Sender  # noqa: PLC0415 - an extra

        parts = urllib.parse.urlsplit(self._url)
        milliseconds = int(self._timeout_s * 1_000)
        sender = Sender.from_conf(
            f"{parts.scheme}::addr={parts.netloc};username={_conf(self._user)};password={_conf(self._password())};"
            f"auto_flush=off;retry_timeout=0;request_timeout={milliseconds};protocol_version=2;"
        )
        sender.establish()  # type: ignore[no-untyped-call] # the client's own gap
        return sender

    def _compare(self, table: Table) -> None:
        asked = f"SELECT \"column\", type FROM table_columns('{table.name}')"  # noqa: S608 - our own name
        present = {str(row[0]): str(row[1]) for row in self._query(asked)}
        for name, kind in columns_ddl(table).items():
            if name not in present:
                self._execute(add_column_ddl(table, name))
            elif present[name] != kind:
                raise ConfigError(
                    f"QuestDB's table {table.name} has {name} as {present[name]}, this build writes {kind}: "
                    f"rename the old table (RENAME TABLE {table.name} TO {table.name}_old), a new one is made"
                )
        asked = f"SELECT dedup FROM tables() WHERE table_name = '{table.name}'"  # noqa: S608 - our own name
        if self._query(asked) != [[True]]:
            raise ConfigError(
                f"QuestDB's table {table.name} does not deduplicate, so a retry would double rows: "
                f"rename it (RENAME TABLE {table.name} TO {table.name}_old), a new one is made"
            )

    def _execute(self, statement: str) -> None:
        self._ask(statement, DDL_TIMEOUT_S)

    def _query(self, statement: str) -> list[list[object]]:
        answer = self._ask(statement, HEALTH_TIMEOUT_S)
        rows = answer.get("dataset")
        if not isinstance(rows, list):
            raise StoreUnavailableError("QuestDB answered a question without rows")
        return rows

    def _ask(self, statement: str, timeout_s: float) -> dict[str, object]:
        token = base64.b64encode(f"{self._user}:{self._password()}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked with the options
            f"{self._url}/exec?{urllib.parse.urlencode({'query': statement})}",
            headers={"Authorization": f"Basic {token}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:  # noqa: S310 - as above
                told = json.load(answer)
        except urllib.error.HTTPError as error:
            raise StoreUnavailableError(_short(f"{error.code} {error.read(500).decode(errors='replace')}")) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise StoreUnavailableError(_short(str(error))) from error
        if not isinstance(told, dict):
            raise StoreUnavailableError("QuestDB answered what is no object")
        return told

    def _password(self) -> str:
        try:
            return self._password_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise StoreUnavailableError(f"no password: {self._password_file}: {error.strerror}") from error


def _is_about_rows(text: str) -> bool:
    """Tell a row that can never be taken from a server that cannot take rows now."""
    return '"code":"invalid"' in text


def _conf(value: str) -> str:
    return value.replace(";", ";;")


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
