"""What the venue holds against what is booked, to the last digit.

In: the venue's balances, the ledger. Out: differences, and the sentence that halts trading. Never: a trade invented to
explain a balance; a halt because a token was bought to pay fees from.
"""

import asyncio
from decimal import Decimal

import msgspec

from services.execution.desk import Desk
from services.execution.trades import LOOK_AGAIN_S, Trades
from shared.domain.money import ZERO, plain, subtract


class Difference(msgspec.Struct, frozen=True):
    """Hold what the venue has of an asset and what the ledger has booked."""

    asset: str
    held: Decimal
    booked: Decimal

    def __str__(self) -> str:
        return f"{self.asset} at the venue {plain(self.held)}, booked {plain(self.booked)}"


class Balances:
    """Compare one account's balances; the caller has the turn."""

    def __init__(self, desk: Desk, trades: Trades) -> None:
        self._desk, self._trades = desk, trades
        self._came: list[Difference] = []

    async def mismatch(self) -> str | None:
        """Return why balances and ledger contradict each other, or None.

        More of an asset that only pays fees came from outside: when two passes have seen the same, it is booked so.
        """
        desk = self._desk
        if desk.books.uncertain_orders():
            # What is unknown may explain a difference; its instruments are blocked until it is known.
            return desk.mismatch
        differences = await self.differences()
        came = [one for one in differences if one.asset in desk.books.fee_assets and one.held > one.booked]
        if len(came) < len(differences):
            return (
                f"balances differ from the ledger: {'; '.join(map(str, differences))}: "
                "`cascade adopt --reason …` books a deposit, a withdrawal or a trade by hand"
            )
        if came and came == self._came:
            changes = {one.asset: (subtract(one.held, one.booked), await self._trades.worth(one.asset)) for one in came}
            desk.books.adopt(f"came-{desk.books.ledger.sequence}", changes, desk.now_ns(), settles=False)
            desk.log.warning("fee_assets_came", differences=[str(one) for one in came])
            came = []
        self._came = came
        return None

    async def differences(self) -> list[Difference]:
        """Return where balances and ledger differ, after looking again: trades and balances may lag behind."""
        differences = await self._compare()
        for delay_s in (0.0,) if self._desk.simulated is not None else LOOK_AGAIN_S:
            if not differences:
                break
            # A trade may have come between the two questions; a venue's balances may lag behind its trades.
            await asyncio.sleep(delay_s)
            await self._trades.pull(self._markets_of(differences))
            differences = await self._compare()
        return differences

    def _markets_of(self, differences: list[Difference]) -> tuple[str, ...]:
        quote = self._desk.books.ledger.quote_asset
        moved = {f"{one.asset}-{quote}" for one in differences}
        return tuple(market for market in self._desk.markets if market in moved)

    async def _compare(self) -> list[Difference]:
        desk = self._desk
        held = {balance.asset: balance.total for balance in await desk.call(desk.venue.balances())}
        booked = desk.books.ledger.balances()
        traded = desk.books.traded
        compared = held.keys() | booked.keys() if traded is None else traded | desk.books.fee_assets
        return [
            Difference(asset, held.get(asset, ZERO), booked.get(asset, ZERO))
            for asset in sorted(compared)
            if held.get(asset, ZERO) != booked.get(asset, ZERO)
        ]
