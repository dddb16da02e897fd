"""What an operator may ask of execution: look, cancel, reconcile.

In: `cmd.execution.<verb>` with JSON arguments. Out: an answer, always. Never: an act that is not audited first.
"""

from collections.abc import Awaitable, Callable

import msgspec

from services.execution.adoption import NotNowError, adopt
from services.execution.cancels import Cancels
from services.execution.core.orders import Order
from services.execution.desk import NAME, Desk
from services.execution.recovery import NO_ANSWER, Recovery
from shared.bus import subjects
from shared.bus.port import Delivery, Subscription
from shared.messages import Command, CommandAudit, CommandReply, Message, OrderState

ACTING = frozenset({"adopt", "cancel", "cancel_all", "reconcile"})


class OrdersArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Choose orders: all that rest (`open`), or the newest `limit`."""

    open: bool = False
    limit: int = 50


class CancelArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name one order."""

    client_order_id: str


class ReconcileArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reconcile; with `resolve_incidents` the noted contradictions are declared settled by a person first."""

    resolve_incidents: bool = False


class NoArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take nothing."""


class OrderRow(msgspec.Struct, frozen=True):
    """Show an order; amounts are texts with every digit."""

    client_order_id: str
    intent_id: str
    venue_order_id: str | None
    strategy: str
    instrument: str
    side: str
    type: str
    state: OrderState
    quantity: str | None
    quote_amount: str | None
    limit_price: str | None
    filled_quantity: str
    filled_quote: str
    reason: str
    decided_at_ns: int


class Status(msgspec.Struct, frozen=True):
    """Show how execution stands."""

    trading_state: str | None
    reconciled: bool
    halt_reason: str | None
    open_orders: int
    unresolved: tuple[str, ...]
    ledger_sequence: int
    market_time_ns: int


class Commands:
    """Answer commands."""

    def __init__(self, desk: Desk, recovery: Recovery, cancels: Cancels) -> None:
        self._desk = desk
        self._recovery = recovery
        self._cancels = cancels
        self._verbs: dict[str, Callable[[Command], Awaitable[tuple[str, bytes]]]] = {
            "orders": self._orders,
            "balances": self._balances,
            "status": self._status,
            "cancel": self._cancel,
            "cancel_all": self._cancel_all,
            "reconcile": self._reconcile,
            "adopt": self._adopt,
        }

    async def start(self) -> list[Subscription]:
        """Answer from now on."""
        return [await self._desk.bus.respond(subjects.command(NAME, verb), self.answer) for verb in self._verbs]

    async def answer(self, delivery: Delivery) -> Message:
        """Audit the command if it acts, carry it out, and say what came of it."""
        command = delivery.message
        if not isinstance(command, Command) or delivery.subject != subjects.command(NAME, command.verb):
            return CommandReply(ok=False, detail="this is no command for execution", correlation_id="", result="{}")
        if command.verb in ACTING:
            await self._audit(command)
        try:
            detail, result = await self._verbs[command.verb](command)
        except msgspec.DecodeError as error:
            return _reply(command, ok=False, detail=f"arguments of {command.verb}: {error}")
        except NotNowError as error:
            return _reply(command, ok=False, detail=str(error))
        except NO_ANSWER as error:
            return _reply(command, ok=False, detail=f"the venue did not answer: {error!r}. Nothing was booked")
        except LookupError as error:
            return _reply(command, ok=False, detail=str(error.args[0]))
        return _reply(command, ok=True, detail=detail, result=result)

    async def _orders(self, command: Command) -> tuple[str, bytes]:
        arguments = _arguments(command, OrdersArguments)
        limit = max(1, min(arguments.limit, 1_000))
        books = self._desk.books
        orders = books.open_orders()[:limit] if arguments.open else books.journal.newest_orders(limit)
        return f"{len(orders)} orders", msgspec.json.encode([_row(order) for order in orders])

    async def _balances(self, command: Command) -> tuple[str, bytes]:
        _arguments(command, NoArguments)
        account = self._desk.publisher.account()
        shown = {
            "ledger_sequence": account.ledger_sequence,
            "as_of_ns": account.as_of_ns,
            "equity_usdt": account.equity_usdt,
            "fees_paid_usdt": account.fees_paid_usdt,
            "balances": [{"asset": b.asset, "free": b.free, "locked": b.locked} for b in account.balances],
            "positions": [
                {name: getattr(position, name) for name in position.__struct_fields__} for position in account.positions
            ],
        }
        return f"{len(account.balances)} assets", msgspec.json.encode(shown)

    async def _status(self, command: Command) -> tuple[str, bytes]:
        _arguments(command, NoArguments)
        desk = self._desk
        status = Status(
            trading_state=None if desk.state is None else desk.state.value,
            reconciled=desk.is_reconciled,
            halt_reason=desk.halt_reason,
            open_orders=len(desk.books.open_orders()),
            unresolved=tuple(order.client_order_id for order in desk.books.uncertain_orders()),
            ledger_sequence=desk.books.ledger.sequence,
            market_time_ns=desk.now_ns(),
        )
        return desk.halt_reason or "running", msgspec.json.encode(status)

    async def _cancel(self, command: Command) -> tuple[str, bytes]:
        arguments = _arguments(command, CancelArguments)
        async with self._desk.turn:
            order = self._desk.books.journal.order_by_client_id(arguments.client_order_id)
            if order is None:
                raise LookupError(f"no order {arguments.client_order_id!r}: `cascade orders` lists them")
            if not order.state.is_terminal:
                order = await self._cancels.cancel(order, _by(command))
                await self._desk.publisher.flush()
        return f"the order is {order.state.value}", msgspec.json.encode(_row(order))

    async def _cancel_all(self, command: Command) -> tuple[str, bytes]:
        _arguments(command, NoArguments)
        async with self._desk.turn:
            asked = await self._cancels.cancel_all(_by(command))
            await self._desk.publisher.flush()
            left = [_row(order) for order in self._desk.books.open_orders()]
        return f"{asked} cancelled, {len(left)} still open", msgspec.json.encode(left)

    async def _reconcile(self, command: Command) -> tuple[str, bytes]:
        arguments = _arguments(command, ReconcileArguments)
        async with self._desk.turn:
            if arguments.resolve_incidents:
                with self._desk.books.journal.step():
                    self._desk.books.journal.resolve_incidents()
            findings = await self._recovery.run()
            await self._desk.publisher.flush()
        return findings.detail, msgspec.json.encode(findings)

    async def _adopt(self, command: Command) -> tuple[str, bytes]:
        _arguments(command, NoArguments)
        async with self._desk.turn:
            differences, findings = await adopt(self._desk, self._recovery, f"adopted-{command.correlation_id}")
            await self._desk.publisher.flush(repeat_snapshot=True)
        booked = "; ".join(map(str, differences)) or "nothing differed"
        return f"{booked}. Now: {findings.detail}", msgspec.json.encode(findings)

    async def _audit(self, command: Command) -> None:
        audit = CommandAudit(service=NAME, command=command, received_at_ns=self._desk.wall_clock_ns())
        message_id = f"{NAME}-{command.verb}-{command.correlation_id}-{command.sent_at_ns}"
        await self._desk.bus.publish(subjects.audit(NAME), audit, message_id=message_id)


def _arguments[T: msgspec.Struct](command: Command, kind: type[T]) -> T:
    return msgspec.json.decode(command.arguments or "{}", type=kind)


def _by(command: Command) -> str:
    return f"{command.user}: {command.reason}"


def _reply(command: Command, *, ok: bool, detail: str, result: bytes = b"{}") -> CommandReply:
    return CommandReply(ok=ok, detail=detail, correlation_id=command.correlation_id, result=result.decode())


def _row(order: Order) -> OrderRow:
    intent = order.intent
    return OrderRow(
        client_order_id=order.client_order_id,
        intent_id=intent.intent_id,
        venue_order_id=order.venue_order_id,
        strategy=intent.strategy,
        instrument=intent.instrument,
        side=intent.side.value,
        type=intent.type.value,
        state=order.state,
        quantity=None if intent.quantity is None else str(intent.quantity),
        quote_amount=None if intent.quote_amount is None else str(intent.quote_amount),
        limit_price=None if intent.limit_price is None else str(intent.limit_price),
        filled_quantity=str(order.filled_quantity),
        filled_quote=str(order.filled_quote),
        reason=order.reason,
        decided_at_ns=intent.decided_at_ns,
    )
