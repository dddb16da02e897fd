"""Reading the store with SQL, also while the recorder writes.

In: the store's root and SELECT statements. Out: rows. A view for each table (see `tables.py`), each row once; `fills`.
Schema `raw` has the same views before redeliveries are removed: filter there first, then deduplicate (`queries.py`).
Never: a change to the store, a file outside it, an error because a table is empty. Damaged files are left out, named
by `damaged`.
"""

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import duckdb
import msgspec
import pyarrow as pa

from shared.clock import wall_ns
from shared.errors import InputError, StoreUnavailableError
from shared.messages import AnyMessage
from shared.store import compaction, files, views
from shared.store.arrow import messages_of
from shared.store.columns import Value, columns_of
from shared.store.files import Part
from shared.store.tables import TABLE_BY_NAME, TABLES, Table

T = TypeVar("T")
type Parameters = Sequence[Value] | Mapping[str, Value]

# A busy recorder may merge files away again and again between listing and opening them.
ATTEMPTS_MAX = 20
BATCH_ROWS = 10_000
_SETTLED_NS = 1_000_000_000
# What DuckDB raises for a missing or damaged file, and for some mistakes in a query.
_FILE_ERRORS = (duckdb.IOException, duckdb.InvalidInputException, duckdb.InternalException, OSError)
_READS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


class Result(msgspec.Struct, frozen=True):
    """Hold the columns' names and the rows of an answer."""

    columns: tuple[str, ...]
    rows: list[tuple[Value, ...]]


class TableInfo(msgspec.Struct, frozen=True):
    """Describe what a table holds; times are None when it is empty."""

    name: str
    rows: int
    first_ns: int | None
    last_ns: int | None
    files: int
    bytes: int


class StoreReader:
    """Answer queries over the store under `root`. One query at a time; safe to share between threads."""

    def __init__(self, root: Path, *, memory_limit: str = "1GB", threads: int = 2) -> None:
        self._root = root.resolve()
        if not set("*?[]{}").isdisjoint(str(self._root)):
            raise InputError(f"the store's path {self._root} must not contain any of * ? [ ] {{ }}")
        self._spill = tempfile.TemporaryDirectory(prefix="cascade-store-")
        self._lock = threading.RLock()
        self._directories: dict[Path, tuple[int, list[Part]]] = {}
        self._views: dict[str, tuple[Path, ...]] = {}
        self._damaged: dict[Path, str] = {}
        self._connection = duckdb.connect(config={"memory_limit": memory_limit, "threads": str(threads)})
        for statement in views.sandbox(self._root, Path(self._spill.name)):
            self._connection.execute(statement)
        self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the connection."""
        with self._lock:
            self._connection.close()
            self._spill.cleanup()

    @property
    def damaged(self) -> tuple[str, ...]:
        """Return the files that were left out because they could not be read, with the reason."""
        return tuple(f"{path.relative_to(self._root)}: {reason}" for path, reason in sorted(self._damaged.items()))

    def refresh(self) -> None:
        """Look for new files; every query does so by itself."""
        with self._lock:
            for table in TABLES:
                parts = self._parts(table)
                paths = tuple(part.path for part in parts)
                if self._views.get(table.name) != paths:
                    for statement in views.definitions(table, parts):
                        self._connection.execute(statement)
                    self._views[table.name] = paths
                    if table.name == views.FILLS_FROM:
                        self._connection.execute(views.FILLS)

    def query(self, sql: str, parameters: Parameters = ()) -> Result:
        """Return the answer of one SELECT; parameters are `?` or `$name`, never text pasted into the SQL.

        Raises InputError for SQL that is wrong or not a SELECT, StoreUnavailableError when files cannot be read.
        """
        with self._lock:
            return self._answer(sql, parameters, self._fetched)

    def arrow(self, sql: str, parameters: Parameters = ()) -> Iterator[pa.RecordBatch]:
        """Yield the answer of one SELECT as Arrow batches; the reader is busy until the last one. Raises as `query`.

        A file that turns out damaged half way raises StoreUnavailableError and is left out of the next answer.
        """
        with self._lock:
            stream = self._answer(sql, parameters, self._streamed)
            try:
                yield from stream
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                self._find_damage()
                raise StoreUnavailableError(f"cannot read the store to the end, try again: {error}") from error

    def stream(self, sql: str, parameters: Parameters = ()) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Return the answer's Arrow schema, known also when there are no rows, and its batches. Raises as `arrow`."""
        with self._lock:
            schema = self._answer(sql, parameters, self._schema)
        return schema, self.arrow(sql, parameters)

    def read_messages(
        self, table: str, *, since_ns: int | None = None, until_ns: int | None = None
    ) -> Iterator[AnyMessage]:
        """Yield the messages of a table as they came in, each once; event times in [since_ns, until_ns)."""
        described = _table(table)
        names = ", ".join(views.quoted(column.name) for column in columns_of(described.message))
        event = views.quoted(described.event_time)
        # What came without a stream keeps the order of its files; a sort on a clock's readings could change it.
        order = "ORDER BY recorded_at_ns, stream_sequence" if described.durable else ""
        sql = (
            f"SELECT {names} FROM {views.quoted(table)} "  # noqa: S608 - names from our own tables, values as parameters
            f"WHERE ($since IS NULL OR {event} >= $since) AND ($until IS NULL OR {event} < $until) {order}"
        )
        for batch in self.arrow(sql, {"since": since_ns, "until": until_ns}):
            yield from messages_of(described, batch)

    def tables(self) -> tuple[TableInfo, ...]:
        """Return what each table holds."""
        found = []
        for table in TABLES:
            event = views.quoted(table.event_time)
            sql = f"SELECT count(*), min({event}), max({event}) FROM {views.quoted(table.name)}"  # noqa: S608 - own names
            with self._lock:
                (row,) = self.query(sql).rows
                parts = self._parts(table)
            rows, first_ns, last_ns = (value if isinstance(value, int) else None for value in row)
            size = sum(part.bytes for part in parts)
            found.append(TableInfo(table.name, rows or 0, first_ns, last_ns, len(parts), size))
        return tuple(found)

    def verify(self) -> tuple[str, ...]:
        """Read every file to the end, checksums compared; return those that are damaged, with the reason."""
        with self._lock:
            self._find_damage()
        return self.damaged

    def _answer(self, sql: str, parameters: Parameters, fetch: Callable[[str, Parameters], T]) -> T:
        try:
            statements = self._connection.extract_statements(sql)
        except duckdb.Error as error:
            raise InputError(f"SQL: {error}") from error
        if len(statements) != 1 or statements[0].type not in _READS:
            raise InputError("SQL: the store is read with exactly one SELECT statement")
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                self.refresh()
                return fetch(sql, parameters)
            except _FILE_ERRORS as error:
                # A merge took a file away, or one is damaged: look again, then look closely.
                self._directories.clear()
                damaged = len(self._damaged)
                if attempt > 1:
                    self._find_damage()
                is_explained = _is_gone(error) or len(self._damaged) > damaged
                if attempt == ATTEMPTS_MAX or (attempt > 1 and not is_explained):
                    raise _translated(error) from error
            except duckdb.Error as error:
                raise InputError(f"SQL: {error}") from error
        raise AssertionError("unreachable")

    def _fetched(self, sql: str, parameters: Parameters) -> Result:
        cursor = self._connection.execute(sql, parameters)
        columns = tuple(str(column[0]) for column in cursor.description or ())
        return Result(columns, cursor.fetchall())

    def _schema(self, sql: str, parameters: Parameters) -> pa.Schema:
        return self._connection.cursor().sql(sql, params=parameters).to_arrow_reader(1).schema

    def _streamed(self, sql: str, parameters: Parameters) -> Iterator[pa.RecordBatch]:
        # The first batch is read here, so that a missing or damaged file shows while another try is possible.
        # A cursor of its own: another query meanwhile would end a stream on the shared one.
        batches = iter(self._connection.cursor().sql(sql, params=parameters).to_arrow_reader(BATCH_ROWS))
        first = next(batches, None)
        return iter(()) if first is None else chain((first,), batches)

    def _parts(self, table: Table) -> list[Part]:
        found: list[Part] = []
        for _, directory in files.day_directories(self._root, table.name):
            # A damaged merge hides nothing: what went into it may still be there.
            found += files.live([part for part in self._listed(directory) if part.path not in self._damaged])
        return found

    def _listed(self, directory: Path) -> list[Part]:
        try:
            modified_ns = directory.stat().st_mtime_ns
        except FileNotFoundError:
            return []
        known = self._directories.get(directory)
        if known is not None and known[0] == modified_ns:
            return known[1]
        parts = files.parts_in(directory)
        # A directory that changed just now may change again without a newer time stamp.
        if wall_ns() - modified_ns > _SETTLED_NS:
            self._directories[directory] = (modified_ns, parts)
        return parts

    def _find_damage(self) -> None:
        for table in TABLES:
            for part in self._parts(table):
                try:
                    compaction.read_part(part)
                except compaction.DamagedPartError as error:
                    self._damaged[part.path] = error.reason
                except FileNotFoundError:
                    continue


def _is_gone(error: Exception) -> bool:
    said = str(error)
    return isinstance(error, FileNotFoundError) or "No such file" in said or "No files found" in said


def open_store(root: Path) -> StoreReader:
    """Open the store under `root` for reading; it need not exist yet. Raises InputError for an unusable path."""
    return StoreReader(root)


def _table(name: str) -> Table:
    try:
        return TABLE_BY_NAME[name]
    except KeyError:
        raise InputError(f"no table {name!r}; there are: {', '.join(TABLE_BY_NAME)}") from None


def _translated(error: Exception) -> StoreUnavailableError | InputError:
    if isinstance(error, duckdb.InvalidInputException):
        return InputError(f"SQL: {error}")
    return StoreUnavailableError(f"cannot read the store: {error}")
