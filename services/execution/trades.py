"""The account's trades into the ledger, in the venue's order, with fees in whatever asset they were taken.

In: the venue's list of trades, what the account holds. Out: booked fills; transfers that say what was held of an asset
that fees are taken in. Never: a trade of nobody's taken for one of ours, a fill lost because its fee cannot be booked.

A venue with a discount for it takes fees in a token of its own (BNB, MX), which the stack need not trade. When such a
fee comes and the ledger has too little of the token, what was held before it is booked as a transfer from outside: what
is held now, and the fees that are not booked yet. From then on that balance is compared like any other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from decimal import Decimal

import msgspec

from services.execution.config import ForeignOrders
from services.execution.core.booking import Booked, book_trade, is_beyond
from services.execution.core.orders import Order
from services.execution.desk import Desk
from shared.domain.instruments import split_symbol
from shared.domain.money import ZERO, add, multiply, plain, subtract
from shared.errors import RejectedError
from shared.exchange.port import RefusedQuestionError, VenueTrade
from shared.messages import Side

PAGE = 1_000
LOOK_AGAIN_S = (0.0, 0.5, 1.0)
PriceOf = Callable[[str], Awaitable[Decimal | None]]
# What a person can do about what somebody else did in the account.
REMEDY = (
    "if it was you, `cascade adopt --reason …` takes it over, then `cascade resume`; "
    "execution.foreign_orders=leave_alone halts for none of them"
)


async def no_price(_: str) -> Decimal | None:
    """Return that there is no price."""
    return None


class Trades:
    """Book one account's trades; the caller has the turn. `price_of` asks the venue for a market's price."""

    def __init__(self, desk: Desk, price_of: PriceOf = no_price) -> None:
        self._desk = desk
        self._price_of = price_of
        # Markets with a trade of which it is not known yet whose it is.
        self.unclaimed: set[str] = set()

    async def pull(self, markets: Iterable[str] = (), *, by_operator: bool = False) -> None:
        """Book every trade that is not booked yet, at a wire those of some markets.

        With `by_operator` a person has said that balances changed from outside: what fees lack is taken from there.
        """
        if self._desk.simulated is not None:
            await self._pull_all()
            return
        asked = tuple(markets)
        trades = await self._list(asked)
        if self._owed(trades, by_operator=by_operator):
            trades = await self._cover(asked, trades, by_operator=by_operator)
        waiting = {trade.instrument for trade in trades if not await self._book(trade)}
        for market in asked:
            own = [trade.sequence for trade in trades if trade.instrument == market]
            if own and market not in waiting:
                self._desk.books.set_trade_sequence(own[-1], market)
            if market not in waiting:
                self.unclaimed.discard(market)

    async def worth(self, asset: str) -> Decimal:
        """Return an asset's price to book it at: its last close, the venue's, what it cost so far; zero without any."""
        books = self._desk.books
        quote = books.ledger.quote_asset
        if asset == quote:
            return Decimal(1)
        price = books.marks().get(f"{asset}-{quote}")
        if price is None and (books.traded is None or asset not in books.traded):
            try:
                price = await self._desk.call(self._price_of(f"{asset}-{quote}"))
            except (RejectedError, RefusedQuestionError) as error:
                self._desk.log.warning("price_refused", asset=asset, error=str(error))
        return price or books.ledger.holding(asset).average_price or ZERO

    async def _pull_all(self) -> None:
        desk = self._desk
        while True:
            trades = await desk.call(desk.venue.trades_since(desk.books.trade_sequence(), limit=PAGE))
            are_booked = [await self._book(trade) for trade in trades]
            if trades and all(are_booked):
                desk.books.set_trade_sequence(trades[-1].sequence)
            if len(trades) < PAGE:
                return

    async def _list(self, markets: Iterable[str]) -> list[VenueTrade]:
        desk, found = self._desk, list[VenueTrade]()
        for market in markets:
            since = desk.books.trade_sequence(market)
            found += await desk.ask_of_market(market, desk.venue.trades_since(since, limit=PAGE, instrument=market), ())
        return sorted(found, key=lambda trade: (trade.sequence, trade.fill.fill_id))

    async def _book(self, trade: VenueTrade) -> bool:
        """Book one trade of the account; False while it is not known yet whose it is, or its fee cannot be booked."""
        desk = self._desk
        order = desk.books.order_at_venue(trade.client_order_id, trade.venue_order_id)
        if order is not None:
            return await self._book_own(order, trade)
        if desk.simulated is None and trade.sequence <= desk.books.opened_sequence:
            return True
        if not trade.client_order_id and desk.books.uncertain_on(trade.instrument) is not None:
            # It may be of the order whose name at the venue we have not heard yet.
            self.unclaimed.add(trade.instrument)
            return False
        name = f"trade {trade.fill.fill_id} of {trade.instrument} is of no order of ours"
        await note_foreign(desk, name, f"{name}: {REMEDY}")
        return True

    async def _book_own(self, order: Order, trade: VenueTrade) -> bool:
        desk, fill = self._desk, trade.fill
        lacks = is_beyond(fill, order.intent.instrument, desk.books.ledger)
        booked = book_trade(order, trade.venue_order_id, fill, desk.books.ledger, desk.now_ns(), may_wait=False)
        if booked.problem is not None and lacks:
            has = plain(desk.books.ledger.balance(fill.fee_asset))
            problem = (
                f"trade {fill.fill_id} of {trade.instrument} was charged {plain(fill.fee)} {fill.fee_asset}, and only "
                f"{has} of it is booked: the trade is held back until `cascade adopt --reason …` books what came from "
                "outside; then `cascade resume`"
            )
            booked = msgspec.structs.replace(booked, problem=problem)
        if _is_news(order, booked):
            await desk.commit(booked)
        return booked.problem is None or not lacks

    def _owed(self, trades: Iterable[VenueTrade], *, by_operator: bool) -> dict[str, Decimal]:
        """Return what the fees of unbooked trades take of third assets, for those of which too little is booked."""
        books, owed = self._desk.books, dict[str, Decimal]()
        for trade in self._unbooked(trades):
            fill = trade.fill
            is_traded = books.traded is None or fill.fee_asset in books.traded
            if fill.fee_asset not in split_symbol(trade.instrument) and (by_operator or not is_traded):
                owed[fill.fee_asset] = add(owed.get(fill.fee_asset, ZERO), fill.fee)
        return {asset: fees for asset, fees in owed.items() if books.ledger.balance(asset) < fees}

    def _unbooked(self, trades: Iterable[VenueTrade]) -> list[VenueTrade]:
        books = self._desk.books
        return [
            trade
            for trade in trades
            if books.order_at_venue(trade.client_order_id, trade.venue_order_id) is not None
            and books.ledger.entry(f"fill:{trade.fill.fill_id}") is None
        ]

    async def _cover(self, markets: Iterable[str], trades: list[VenueTrade], *, by_operator: bool) -> list[VenueTrade]:
        """Book what was held of the assets that fees lack, by balances that know of the very same trades."""
        desk, held = self._desk, dict[str, Decimal]()
        for delay_s in LOOK_AGAIN_S:
            if delay_s:
                await asyncio.sleep(delay_s)
                trades = await self._list(markets)
            held = {one.asset: one.total for one in await desk.call(desk.venue.balances())}
            if by_operator or self._explains(trades, held):
                break
        changes: dict[str, tuple[Decimal, Decimal]] = {}
        for asset, fees in self._owed(trades, by_operator=by_operator).items():
            before = add(held.get(asset, ZERO), fees)
            changes[asset] = (subtract(before, desk.books.ledger.balance(asset)), await self.worth(asset))
        if changes:
            desk.books.adopt(f"fees-{desk.books.ledger.sequence}", changes, desk.now_ns(), settles=False)
            desk.log.warning(
                "fee_assets_booked", amounts={name: plain(one[0]) for name, one in sorted(changes.items())}
            )
        return trades

    def _explains(self, trades: list[VenueTrade], held: Mapping[str, Decimal]) -> bool:
        """Tell whether the unbooked trades are all that lies between ledger and balances, in what they bought or sold.

        Then the balances are neither older nor newer than the list.
        """
        after: dict[str, Decimal] = {}
        ledger = self._desk.books.ledger
        for trade in self._unbooked(trades):
            base, quote = split_symbol(trade.instrument)
            fill, value = trade.fill, multiply(trade.fill.price, trade.fill.quantity)
            is_buy = trade.side is Side.BUY
            for asset, change in (
                (base, fill.quantity if is_buy else fill.quantity.copy_negate()),
                (quote, value.copy_negate() if is_buy else value),
            ):
                after[asset] = add(after.get(asset, ledger.balance(asset)), change)
            if fill.fee_asset in (base, quote):
                after[fill.fee_asset] = subtract(after[fill.fee_asset], fill.fee)
        return all(held.get(asset, ZERO) == amount for asset, amount in after.items())


async def note_foreign(desk: Desk, name: str, detail: str) -> None:
    """Note what is not ours and demand a halt, unless such things are left alone or a person has settled this one."""
    journal = desk.books.journal
    if desk.config.foreign_orders is ForeignOrders.LEAVE_ALONE or journal.knows_incident(name):
        return
    with journal.step():
        journal.add_incident(name, detail, desk.now_ns())
    await desk.demand_halt(detail)


def _is_news(before: Order, booked: Booked) -> bool:
    return booked.order != before or booked.problem is not None or booked.waits
