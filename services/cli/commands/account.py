"""`cascade orders | balances`: what is on order and what is owned, as execution last said."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from services.cli.client import ask, newest_history
from services.cli.commands.options import AsJson, StateDir, console, print_json
from services.cli.runfile import find_running
from services.cli.summary import iso_time
from services.cli.view import amount, number
from shared.bus import streams, subjects
from shared.bus.port import Bus
from shared.errors import UnavailableError
from shared.messages import TERMINAL_STATES, AccountSnapshot, OrderEvent

# An order leaves an intent, an approval and a few events.
MESSAGES_AN_ORDER = 16
REACH_MIN = 2_000

Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many of the newest to show.")]


class OrderView(msgspec.Struct, frozen=True):
    """Show an order as it now stands; times are ISO 8601, UTC."""

    client_order_id: str
    intent_id: str
    instrument: str
    side: str
    type: str
    state: str
    is_open: bool
    quantity: Decimal | None
    quote_amount: Decimal | None
    limit_price: Decimal | None
    filled_quantity: Decimal
    filled_quote: Decimal
    average_price: Decimal | None
    updated_at: str
    reason: str


class HoldingView(msgspec.Struct, frozen=True):
    """Show what is held of an asset; `value_usdt` is None until a price was seen."""

    asset: str
    free: Decimal
    locked: Decimal
    value_usdt: Decimal | None
    share: float | None


class AccountView(msgspec.Struct, frozen=True):
    """Show the account at a market time."""

    as_of: str
    equity_usdt: Decimal | None
    fees_paid_usdt: Decimal
    open_orders: int
    balances: tuple[HoldingView, ...]


def orders(
    open_only: Annotated[bool, typer.Option("--open", help="Only orders that are not over.")] = False,
    limit: Limit = 20,
    state_dir: StateDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the open and the newest orders."""
    run = find_running(state_dir)
    shown = ask(run, lambda bus: newest_orders(bus, run.venue, limit, open_only=open_only))
    if as_json:
        print_json(shown)
        return
    if not shown:
        console.print("no open orders" if open_only else "no orders yet")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("time", "market", "side", "asked", "state", "filled", "price", "reason"):
        table.add_column(
            heading, justify="right" if heading in ("asked", "filled", "price") else "left", no_wrap=heading == "time"
        )
    for order in shown:
        asked = number(order.quantity) if order.quantity is not None else f"{amount(order.quote_amount)} USDT"
        price = "–" if order.average_price is None else number(order.average_price.quantize(Decimal("1e-8")))
        filled = number(order.filled_quantity)
        state = f"[bold]{order.state}[/]" if order.is_open else order.state
        table.add_row(order.updated_at, order.instrument, order.side, asked, state, filled, price, order.reason)
    console.print(table)


def balances(state_dir: StateDir = None, as_json: AsJson = False) -> None:
    """Show what the account holds and what it is worth."""
    run = find_running(state_dir)
    snapshot = ask(run, lambda bus: _last_account(bus, run.venue))
    if snapshot is None:
        raise UnavailableError("no account was reported yet: execution says it after the first market step")
    view = account_view(snapshot)
    if as_json:
        print_json(view)
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("asset", "free", "locked", "worth (USDT)", "share"):
        table.add_column(heading, justify="left" if heading == "asset" else "right")
    for holding in view.balances:
        share = "–" if holding.share is None else f"{holding.share * 100:.1f} %"
        worth = amount(holding.value_usdt)
        table.add_row(holding.asset, number(holding.free), number(holding.locked), worth, share)
    console.print(table)
    fees = f"fees {amount(view.fees_paid_usdt)} USDT, {view.open_orders} open orders"
    when = f"at {view.as_of}" if snapshot.as_of_ns else "before the first market step"
    console.print(f"equity {amount(view.equity_usdt)} USDT {when}, {fees}", highlight=False)


def latest_orders(events: Iterable[OrderEvent]) -> list[OrderView]:
    """Return each order by its newest event, in the order of their newest events."""
    newest: dict[str, OrderEvent] = {}
    for event in events:
        newest.pop(event.client_order_id, None)
        newest[event.client_order_id] = event
    return [_order_view(event) for event in newest.values()]


def account_view(snapshot: AccountSnapshot) -> AccountView:
    """Return the account with what each holding is worth."""
    worth: dict[str, Decimal | None] = {
        position.instrument.rpartition("-")[0]: position.value_usdt for position in snapshot.positions
    }
    equity = snapshot.equity_usdt
    holdings = []
    for balance in snapshot.balances:
        value = balance.total if balance.asset == "USDT" else worth.get(balance.asset)
        share = float(value / equity) if value is not None and equity else None
        holdings.append(HoldingView(balance.asset, balance.free, balance.locked, value, share))
    return AccountView(
        as_of=iso_time(snapshot.as_of_ns),
        equity_usdt=equity,
        fees_paid_usdt=snapshot.fees_paid_usdt,
        open_orders=snapshot.open_orders,
        balances=tuple(holdings),
    )


def _order_view(event: OrderEvent) -> OrderView:
    return OrderView(
        client_order_id=event.client_order_id,
        intent_id=event.intent_id,
        instrument=event.instrument,
        side=event.side.value,
        type=event.type.value,
        state=event.state.value,
        is_open=event.state not in TERMINAL_STATES,
        quantity=event.quantity,
        quote_amount=event.quote_amount,
        limit_price=event.limit_price,
        filled_quantity=event.filled_quantity,
        filled_quote=event.filled_quote,
        average_price=event.filled_quote / event.filled_quantity if event.filled_quantity else None,
        updated_at=iso_time(event.ts_event_ns),
        reason=event.reason,
    )


async def newest_orders(bus: Bus, venue: str, limit: int, *, open_only: bool = False) -> list[OrderView]:
    """Return the newest `limit` orders, oldest first, and read no more of the stream than they need."""
    reach = max(REACH_MIN, limit * MESSAGES_AN_ORDER)
    wanted = limit
    if open_only:
        account = await _last_account(bus, venue)
        wanted = min(limit, account.open_orders) if account is not None else limit
    while True:
        deliveries, is_all = await newest_history(bus, streams.ORDERS, "ord.event.>", reach=reach)
        events = [message for delivery in deliveries if isinstance(message := delivery.message, OrderEvent)]
        shown = [order for order in latest_orders(events) if order.is_open or not open_only][-limit:]
        if is_all or len(shown) >= wanted:
            return shown
        reach *= 4


async def _last_account(bus: Bus, venue: str) -> AccountSnapshot | None:
    last = await bus.last(streams.ACCOUNTS, subjects.account(venue))
    return last.message if last is not None and isinstance(last.message, AccountSnapshot) else None
