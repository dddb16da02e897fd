"""The gate's memory: each change of `Gate` goes into the store in the same step, and is read back at a start.

In: messages that the gate takes. Out: the gate, as it was before a kill. Never: an acknowledged message whose effect
a restart forgets.
"""

from pathlib import Path

import msgspec

from services.risk.core.checks import remembered
from services.risk.core.gate import Gate, Verdict
from services.risk.core.limits import Limits
from services.risk.core.market import Closes
from services.risk.core.view import ApprovedOrder, Equity
from services.risk.store import RiskStore, StoredVerdict
from shared.clock import wall_ns
from shared.domain.instruments import split_symbol
from shared.errors import DecodeError, InputError, IntegrityError
from shared.messages import (
    AccountSnapshot,
    Bar,
    BarsClosed,
    Instrument,
    InstrumentDefinition,
    MarketStatus,
    OrderApproved,
    OrderEvent,
    OrderRefused,
    decode,
    encode,
)

_pack = msgspec.msgpack.encode
DAMAGED = ".damaged-"


class Position(msgspec.Struct, frozen=True):
    """Say how far the gate is: in the stream ORDERS, in the account's ledger, in market time."""

    orders_sequence: int = 0
    seen_sequence: int = 0
    used_sequence: int = 0
    closed_ns: int = 0


class GateMemory:
    """Hold a gate and keep what it must remember."""

    def __init__(self, store: RiskStore, limits: Limits) -> None:
        self._store = store
        self.gate = Gate(limits)
        self.orders_sequence = 0

    def load(self) -> None:
        """Read everything back; raises IntegrityError when something cannot be read."""
        try:
            self._load()
        except (msgspec.MsgspecError, DecodeError, ValueError) as error:
            raise IntegrityError(f"a stored fact cannot be read: {error}") from error

    def on_market(self, message: InstrumentDefinition | Bar | BarsClosed | MarketStatus) -> bool:
        """Take market data; False when it was refused or is older than what is known."""
        market = self.gate.market
        with self._store.transaction():
            match message:
                case InstrumentDefinition(instrument=instrument):
                    taken = market.on_instrument(instrument)
                    if taken:
                        self._store.put("instrument", instrument.symbol, _pack(instrument))
                case Bar(instrument=symbol):
                    taken = market.on_bar(message)
                    if taken:
                        self._store.put("closes", symbol, _pack(market.closes[symbol]))
                case BarsClosed():
                    taken = market.on_closed(message)
                    self._save_position()
                case MarketStatus(instrument=frozen):
                    taken = True
                    void_ns = market.void.get(frozen or "")
                    market.on_status(message)
                    if frozen is not None and market.void.get(frozen) != void_ns:
                        self._store.put("void", frozen, str(market.void[frozen]).encode())
                    if frozen is not None and frozen in market.frozen:
                        self._store.put("frozen", frozen, market.frozen[frozen].encode())
                    elif frozen is not None:
                        self._store.drop("frozen", frozen)
        return taken

    def on_snapshot(self, snapshot: AccountSnapshot) -> bool:
        """Take an account snapshot; False when it was refused or is older than what is known."""
        book = self.gate.book
        if not book.on_snapshot(snapshot):
            return False
        with self._store.transaction():
            self._store.put("snapshot", str(snapshot.ledger_sequence), encode(snapshot))
            for sequence in book.forget_snapshots():
                self._store.drop("snapshot", str(sequence))
        return True

    def on_event(self, event: OrderEvent, stream_sequence: int) -> None:
        """Take an order event."""
        with self._store.transaction():
            changed = self.gate.book.on_event(event)
            if changed is not None:
                self._save_order(changed)
            self.orders_sequence = stream_sequence
            self._save_position()

    def save(self, key: str, verdict: Verdict, stored: StoredVerdict, stream_sequence: int) -> None:
        """Keep a new verdict and everything that it changes."""
        gate = self.gate
        with self._store.transaction():
            self._store.save_verdict(key, stored)
            gate.remember(verdict)
            if isinstance(stored.message, OrderApproved):
                self._save_order(gate.book.orders[stored.message.intent.intent_id])
            if gate.equity is not None:
                self._store.put("gate", "equity", _pack(gate.equity))
            for forgotten in gate.forget(verdict.view.now_ns):
                self._store.drop("order", forgotten)
            self.orders_sequence = stream_sequence
            self._save_position()

    def adopt(self, message: OrderApproved | OrderRefused, key: str) -> None:
        """Take over a verdict that is in the stream ORDERS and not here: this store is new or lost its last commits."""
        if self._store.verdict(key) is not None:
            return
        with self._store.transaction():
            self._store.save_verdict(key, StoredVerdict(message, None))
            if isinstance(message, OrderApproved):
                order = remembered(message, _base(message.intent.instrument), self.gate.limits.quote_fee_rate)
                self.gate.book.approve(order, self.gate.book.used_sequence)
                self._save_order(order)

    def _load(self) -> None:
        gate, store = self.gate, self._store
        for symbol, value in store.facts("instrument").items():
            gate.market.instruments[symbol] = msgspec.msgpack.decode(value, type=Instrument)
        for symbol, value in store.facts("closes").items():
            gate.market.closes[symbol] = msgspec.msgpack.decode(value, type=Closes)
        gate.market.frozen = {symbol: reason.decode() for symbol, reason in store.facts("frozen").items()}
        gate.market.void = {symbol: int(value) for symbol, value in store.facts("void").items()}
        for value in store.facts("snapshot").values():
            snapshot = decode(value)
            if not isinstance(snapshot, AccountSnapshot):
                raise IntegrityError("a stored snapshot is none")
            gate.book.snapshots[snapshot.ledger_sequence] = snapshot
        orders = [msgspec.msgpack.decode(value, type=ApprovedOrder) for value in store.facts("order").values()]
        gate.book.orders = {order.intent_id: order for order in sorted(orders, key=_age)}
        equity = store.fact("gate", "equity")
        gate.equity = None if equity is None else msgspec.msgpack.decode(equity, type=Equity)
        value = store.fact("gate", "position") or _pack(Position())
        position = msgspec.msgpack.decode(value, type=Position)
        gate.market.closed_ns = position.closed_ns
        gate.book.seen_sequence, gate.book.used_sequence = position.seen_sequence, position.used_sequence
        self.orders_sequence = position.orders_sequence
        store.forget_verdicts()

    def _save_order(self, order: ApprovedOrder) -> None:
        self._store.put("order", order.intent_id, _pack(order))

    def _save_position(self) -> None:
        book = self.gate.book
        position = Position(self.orders_sequence, book.seen_sequence, book.used_sequence, self.gate.market.closed_ns)
        self._store.put("gate", "position", _pack(position))


def open_memory(path: Path, limits: Limits) -> tuple[RiskStore, GateMemory, str | None]:
    """Open the database and read it back; returns also why the one of before cannot be read, if so.

    A damaged file is set aside as evidence. Then the gate halts and a person decides; the streams give back the rest.
    """
    try:
        store, memory = _opened(path, limits)
    except IntegrityError as error:
        damage = str(error)
    else:
        # A kill between setting a damaged file aside and halting must not be forgotten either.
        was_set_aside = any(DAMAGED in part.name for part in path.parent.glob(f"{path.name}*"))
        is_new = store.fact("trading", "state") is None
        return store, memory, "a damaged database was set aside" if was_set_aside and is_new else None
    stamp = wall_ns()
    for part in path.parent.glob(f"{path.name}*"):
        if DAMAGED not in part.name:
            part.rename(part.with_name(f"{part.name}{DAMAGED}{stamp}"))
    return *_opened(path, limits), damage


def _opened(path: Path, limits: Limits) -> tuple[RiskStore, GateMemory]:
    store = RiskStore(path)
    memory = GateMemory(store, limits)
    try:
        memory.load()
    except IntegrityError:
        store.close()
        raise
    return store, memory


def _age(order: ApprovedOrder) -> tuple[int, str]:
    return order.approved_at_ns, order.intent_id


def _base(symbol: str) -> str:
    try:
        return split_symbol(symbol)[0]
    except InputError:
        return symbol
