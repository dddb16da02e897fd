"""What happens to the account besides our orders: fees in a token, orders by hand, a key that ends, many markets.

Service, adapter and wire are real, the sandbox's ledger is the truth.
"""

from collections import Counter
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from services.execution.config import ForeignOrders
from services.sandbox_exchange.core.faults import FaultName as F
from services.sandbox_exchange.core.model import OrderKind, PlaceOrder
from shared.exchange.mexc import rest as mexc_rest
from shared.messages import OrderState as S
from shared.messages import Side, TradingState
from tests.integration.faults.rig import CREATE, MARKET, TRADER, VENUES, SandboxRig, sandbox_rig
from tests.integration.faults.test_orders_under_faults import trade_on

TOKEN = {"mexc": "MX", "binance": "BNB"}
HELD = {"mexc": Decimal(50), "binance": Decimal(5)}


async def halted(rig: SandboxRig) -> str:
    """Wait for the halt, obey it as risk would, and return its reason."""
    await rig.until(lambda: rig.desk.halt_reason is not None)
    reason = rig.desk.halt_reason or ""
    await rig.set_state(TradingState.HALTED)
    await rig.until(lambda: rig.desk.state is TradingState.HALTED)
    return reason


async def resume(rig: SandboxRig) -> None:
    await rig.set_state(TradingState.ACTIVE)
    await rig.until(lambda: rig.desk.state is TradingState.ACTIVE)


def by_hand(rig: SandboxRig, *, price: str = "0.97", client_order_id: str = "web1") -> int:
    """Place an order of the account as its owner would on the venue's page; return the venue's id."""
    tick, step = rig._grid()
    bid = rig.best(Side.BUY)
    limit = (bid * Decimal(price)) // tick * tick
    quantity = (Decimal(100) / bid) // step * step
    request = PlaceOrder(
        TRADER, MARKET, Side.BUY, OrderKind.LIMIT, quantity=quantity, price=limit, client_order_id=client_order_id
    )
    order, _ = rig.exchange.place(request, rig.running.venue.now_ns())
    return order.order_id


@pytest.mark.parametrize("is_priced", [True, False])
@pytest.mark.parametrize("venue", VENUES)
async def test_fees_in_the_venues_token_are_booked_to_the_last_digit_and_halt_nothing(
    venue: str, is_priced: bool, tmp_path: Path
) -> None:
    token = TOKEN[venue]
    symbols = (MARKET, f"{token}USDT") if is_priced else (MARKET,)
    async with sandbox_rig(venue, tmp_path, symbols=symbols) as rig:
        rig.arm(F.FEE_THIRD_ASSET, times=None)
        for number, kind in enumerate(("quote", "bounded", "sell"), 1):
            assert await rig.do(number, kind) is S.FILLED
        await trade_on(rig, 4)
        await rig.quiet()
        assert rig.desk.books.fee_assets == {token}
        await rig.check()
        ledger = rig.desk.books.ledger
        assert 0 < ledger.balance(token) < HELD[venue]
        assert (ledger.fees_quote > 0) == is_priced
        assert rig.desk.halt_reason is None
        assert await rig.halts() == []
        account = (await rig.snapshots())[-1]
        assert account.equity_usdt is not None
        await rig.restart()
        assert await rig.do(7, "quote") is S.FILLED
        await rig.quiet()
        await rig.check()


@pytest.mark.parametrize(
    "fault",
    [None, F.HTML_200, F.TIMEOUT_AFTER, F.FILL_BEFORE_REPLY, F.REPORT_DROP, F.REPORT_REORDER, F.BALANCE_STALE],
)
@pytest.mark.parametrize("point", [None, "after_send_before_outcome", "after_outcome_before_publish"])
@pytest.mark.parametrize("venue", VENUES)
async def test_the_first_fee_in_a_token_survives_faults_and_crashes(
    venue: str, point: str | None, fault: F | None, tmp_path: Path
) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        rig.arm(F.FEE_THIRD_ASSET, times=None)
        if fault is not None:
            rig.arm(fault, times=1 if fault is not F.REPORT_DROP else None, route=_route(fault))
        rig.fault = point
        assert await rig.do(1, "quote") is S.FILLED
        await rig.quiet()
        assert await rig.do(2, "sell") is S.FILLED
        await rig.quiet()
        await rig.check()
        assert rig.desk.books.fee_assets == {TOKEN[venue]}
        assert rig.desk.halt_reason is None


def _route(fault: F) -> str | None:
    return CREATE if fault in (F.HTML_200, F.TIMEOUT_AFTER, F.FILL_BEFORE_REPLY) else None


@pytest.mark.parametrize("venue", VENUES)
async def test_a_token_that_comes_is_booked_and_one_that_goes_halts_until_it_is_adopted(
    venue: str, tmp_path: Path
) -> None:
    token = TOKEN[venue]
    async with sandbox_rig(venue, tmp_path) as rig:
        rig.arm(F.FEE_THIRD_ASSET, times=None)
        assert await rig.do(1, "quote") is S.FILLED
        rig.exchange.transfer(TRADER, token, Decimal(3), rig.running.venue.now_ns(), "top up")
        await rig.until(lambda: not rig.differences())
        assert await rig.do(2, "quote") is S.FILLED
        assert rig.desk.halt_reason is None
        rig.exchange.transfer(TRADER, token, Decimal(-1), rig.running.venue.now_ns(), "to a wallet")
        reason = await halted(rig)
        assert f"{token} at the venue" in reason
        assert "cascade adopt" in reason
        reply = await rig.command("adopt")
        assert reply.ok, reply.detail
        await resume(rig)
        assert await rig.do(3, "sell") is S.FILLED
        await rig.quiet()
        await rig.check()


@pytest.mark.parametrize("venue", VENUES)
async def test_an_order_by_hand_halts_by_its_id_until_it_is_adopted_and_its_fill_is_money(
    venue: str, tmp_path: Path
) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        assert await rig.do(1, "quote") is S.FILLED
        number = by_hand(rig)
        reason = await halted(rig)
        for words in (str(number), "BTC-USDT", "cascade adopt", "leave_alone"):
            assert words in reason
        reply = await rig.command("adopt")
        assert reply.ok, reply.detail
        await resume(rig)
        assert await rig.do(2, "sell") is S.FILLED
        assert rig.desk.halt_reason is None, "a person has settled it"
        by_hand(rig, price="1.03", client_order_id="web2")
        assert "BTC" in await halted(rig)
        reply = await rig.command("adopt")
        assert reply.ok, reply.detail
        await resume(rig)
        assert await rig.do(3, "quote") is S.FILLED
        booked = rig.desk.books.ledger.balances()
        for asset in ("USDT", "BTC"):
            held = rig.ledger().holding(asset)
            assert held.free + held.locked == booked[asset]


@pytest.mark.parametrize("venue", VENUES)
async def test_orders_by_hand_may_be_left_alone(venue: str, tmp_path: Path) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        rig.config = msgspec.structs.replace(rig.config, foreign_orders=ForeignOrders.LEAVE_ALONE)
        await rig.restart()
        by_hand(rig)
        assert (await rig.command("reconcile")).detail == "books and venue agree"
        assert await rig.do(1, "quote") is S.FILLED
        assert rig.desk.halt_reason is None
        by_hand(rig, price="1.03", client_order_id="web2")
        assert "balances differ" in await halted(rig)


@pytest.mark.parametrize("how", ["expired", "another address"])
@pytest.mark.parametrize("venue", VENUES)
async def test_a_key_that_is_refused_on_questions_alone_halts_with_the_fix(
    venue: str, how: str, tmp_path: Path
) -> None:
    async with sandbox_rig(venue, tmp_path) as rig:
        assert await rig.do(1, "quote") is S.FILLED
        good = rig.spoil_key(how)
        reason = await halted(rig)
        for words in ("refuses the key", "exchange.key_file", "cascade resume"):
            assert words in reason
        assert len(await rig.halts()) == 1
        sent = rig.requests_of(CREATE)
        assert await rig.do(2, "quote") is S.DENIED
        assert rig.requests_of(CREATE) == sent
        rig.restore_key(good)
        await rig.until(lambda: rig.desk.halt_reason is None)
        await resume(rig)
        assert await rig.do(3, "quote") is S.FILLED
        await rig.quiet()
        await rig.check()


LETTERS = "ABCDEFGHIJKLMNOPQRST"
MANY = (MARKET, *(f"{first}{second}USDT" for first in ("X", "Y") for second in LETTERS))[:40]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("venue", VENUES)
async def test_forty_quiet_markets_cost_few_questions_and_each_has_its_turn(
    venue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Our own limit on an endpoint would only make the test wait: its passes come at once.
    monkeypatch.setattr(mexc_rest, "WEIGHT_PER_10_S", 10_000.0)
    async with sandbox_rig(venue, tmp_path, symbols=MANY) as rig:
        rig.tokens = tuple(f"{symbol.removesuffix('USDT')}-USDT" for symbol in MANY)
        await rig.restart()
        assert await rig.do(1, "limit") is S.ACCEPTED
        passes = len(MANY) // 2
        before = _count(rig)
        for _ in range(passes):
            rig.service._recovery._attention._turned_ns = None  # an interval has passed
            assert (await rig.command("reconcile")).ok
        asked = _count(rig) - before
        # Beside ours, two markets have their turn in a pass; a minute has twelve passes.
        trades, orders = asked["GET /api/v3/myTrades"], asked["GET /api/v3/openOrders"]
        assert trades <= 2 * passes + 4
        assert orders <= 3 * passes + 4
        assert asked["GET /api/v3/account"] <= passes + 4
        per_minute = 10 * trades / passes * 12
        assert per_minute <= 3_000 / 10, "a tenth of what MEXC lets one endpoint weigh"
        seen = Counter(
            one.symbol for one in list(rig.running.venue.requests)[-asked.total() :] if one.route.endswith("myTrades")
        )
        assert set(seen) == set(MANY), "each market has its turn"
        rig.hit(1)
        assert (await rig.settled(1))[0] is S.FILLED
        await rig.quiet()
        await rig.check()


def _count(rig: SandboxRig) -> Counter[str]:
    return Counter(one.route for one in rig.running.venue.requests)
