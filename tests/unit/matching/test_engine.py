"""Known answers of the matching engine."""

from decimal import Decimal

import pytest

from shared.matching import (
    FeeMode,
    FeeSchedule,
    MatchingEngine,
    NewOrder,
    OutcomeReason,
    OutcomeState,
    SelfTradePrevention,
)
from shared.messages import Instrument, Side, TimeInForce

MARKET = Instrument("BTC-USDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.001"), Decimal(0), Decimal(0))
BUY, SELL = Side.BUY, Side.SELL


def engine_with(*levels: tuple[str, Side, str, str], owner: str = "maker", fees: FeeSchedule | None = None):
    engine = MatchingEngine(MARKET, fees, third_asset_price=Decimal("600"))
    for order_id, side, price, quantity in levels:
        engine.submit(NewOrder(order_id, owner, side, quantity=Decimal(quantity), limit_price=Decimal(price)))
    return engine


def test_taker_gets_the_best_price_first_then_the_oldest_order() -> None:
    engine = engine_with(("a", SELL, "101", "1"), ("b", SELL, "100", "1"), ("c", SELL, "100", "1"))
    outcome = engine.submit(NewOrder("t", "taker", BUY, quantity=Decimal("2.5")))
    assert [(trade.maker_order_id, trade.price, trade.quantity) for trade in outcome.executions] == [
        ("b", Decimal(100), Decimal(1)),
        ("c", Decimal(100), Decimal(1)),
        ("a", Decimal(101), Decimal("0.5")),
    ]
    assert engine.resting_quantity("a") == Decimal("0.5")


def test_taker_pays_the_makers_price_and_the_rest_of_a_limit_order_rests() -> None:
    engine = engine_with(("a", BUY, "100", "1"))
    outcome = engine.submit(NewOrder("t", "taker", SELL, quantity=Decimal(3), limit_price=Decimal(99)))
    assert (outcome.state, outcome.executions[0].price, outcome.resting_quantity) == (
        OutcomeState.RESTING,
        Decimal(100),
        Decimal(2),
    )
    assert (engine.best_bid(), engine.best_ask()) == (None, Decimal(99))


def test_partly_filled_maker_keeps_its_place_in_the_queue() -> None:
    engine = engine_with(("a", SELL, "100", "2"), ("b", SELL, "100", "2"))
    engine.submit(NewOrder("t1", "taker", BUY, quantity=Decimal(1)))
    assert engine.order_ids(SELL) == ["a", "b"]
    outcome = engine.submit(NewOrder("t2", "taker", BUY, quantity=Decimal(2)))
    assert [trade.maker_order_id for trade in outcome.executions] == ["a", "b"]


def test_market_buy_by_quote_spends_no_more_than_its_amount() -> None:
    engine = engine_with(("a", SELL, "100", "0.5"), ("b", SELL, "300", "1"))
    outcome = engine.submit(NewOrder("t", "taker", BUY, quote_amount=Decimal("100.2")))
    assert [trade.quantity for trade in outcome.executions] == [Decimal("0.5"), Decimal("0.167")]
    assert outcome.unspent_quote == Decimal("100.2") - Decimal(50) - Decimal("50.1")
    assert outcome.state is OutcomeState.FILLED


def test_market_buy_by_quote_that_empties_the_book_is_cancelled_for_the_rest() -> None:
    engine = engine_with(("a", SELL, "100", "0.5"))
    outcome = engine.submit(NewOrder("t", "taker", BUY, quote_amount=Decimal(80)))
    assert (outcome.state, outcome.reason, outcome.unspent_quote) == (
        OutcomeState.CANCELED,
        OutcomeReason.UNFILLED,
        Decimal(30),
    )


def test_quote_amount_with_a_limit_stops_at_the_limit() -> None:
    engine = engine_with(("a", SELL, "100", "0.5"), ("b", SELL, "101", "1"))
    outcome = engine.submit(
        NewOrder("t", "taker", BUY, quote_amount=Decimal(80), limit_price=Decimal(100), time_in_force=TimeInForce.IOC)
    )
    assert ([trade.price for trade in outcome.executions], outcome.unspent_quote) == ([Decimal(100)], Decimal(30))
    assert outcome.state is OutcomeState.CANCELED


@pytest.mark.parametrize("force", [TimeInForce.IOC, TimeInForce.FOK])
def test_ioc_takes_what_is_there_and_fok_takes_nothing(force: TimeInForce) -> None:
    engine = engine_with(("a", SELL, "100", "1"))
    outcome = engine.submit(
        NewOrder("t", "taker", BUY, quantity=Decimal(2), limit_price=Decimal(100), time_in_force=force)
    )
    assert outcome.state is OutcomeState.CANCELED
    assert outcome.canceled_quantity == (Decimal(1) if force is TimeInForce.IOC else Decimal(2))
    assert engine.resting_quantity("a") == (None if force is TimeInForce.IOC else Decimal(1))
    assert engine.best_bid() is None


@pytest.mark.parametrize(
    ("mode", "own_rests", "other_trades", "state"),
    [
        (SelfTradePrevention.NONE, False, True, OutcomeState.FILLED),
        (SelfTradePrevention.CANCEL_TAKER, True, False, OutcomeState.CANCELED),
        (SelfTradePrevention.CANCEL_MAKER, False, True, OutcomeState.FILLED),
        (SelfTradePrevention.CANCEL_BOTH, False, False, OutcomeState.CANCELED),
    ],
)
def test_self_trade_prevention_modes(
    mode: SelfTradePrevention, own_rests: bool, other_trades: bool, state: OutcomeState
) -> None:
    engine = engine_with(("own", SELL, "100", "1"), owner="me")
    engine.submit(NewOrder("other", "you", SELL, quantity=Decimal(1), limit_price=Decimal(101)))
    quantity = Decimal(2) if mode is SelfTradePrevention.NONE else Decimal(1)
    outcome = engine.submit(NewOrder("t", "me", BUY, quantity=quantity, self_trade=mode))
    assert outcome.state is state
    assert (engine.resting_quantity("own") is not None) == own_rests
    assert any(trade.maker_order_id == "other" for trade in outcome.executions) == other_trades
    if mode is not SelfTradePrevention.NONE:
        assert all(trade.maker_owner != "me" for trade in outcome.executions)
    if mode in (SelfTradePrevention.CANCEL_MAKER, SelfTradePrevention.CANCEL_BOTH):
        assert outcome.canceled_makers == (("own", Decimal(1)),)


def test_fok_does_not_count_the_owners_own_orders() -> None:
    engine = engine_with(("own", SELL, "100", "1"), owner="me")
    outcome = engine.submit(
        NewOrder(
            "t",
            "me",
            BUY,
            quantity=Decimal(1),
            time_in_force=TimeInForce.FOK,
            self_trade=SelfTradePrevention.CANCEL_MAKER,
        )
    )
    assert (outcome.reason, engine.resting_quantity("own")) == (OutcomeReason.FOK_UNFILLABLE, Decimal(1))


@pytest.mark.parametrize(
    ("mode", "side", "fee", "asset"),
    [
        (FeeMode.GET, BUY, "0.002", "BTC"),
        (FeeMode.GET, SELL, "0.2", "USDT"),
        (FeeMode.BASE, SELL, "0.002", "BTC"),
        (FeeMode.QUOTE, BUY, "0.2", "USDT"),
        (FeeMode.THIRD, BUY, "0.00033334", "BNB"),
    ],
)
def test_fee_is_charged_in_the_asset_of_the_mode(mode: FeeMode, side: Side, fee: str, asset: str) -> None:
    fees = FeeSchedule(Decimal(0), Decimal("0.001"), mode, "BNB" if mode is FeeMode.THIRD else None)
    engine = engine_with(("a", side.opposite, "100", "2"), fees=fees)
    trade = engine.submit(NewOrder("t", "taker", side, quantity=Decimal(2))).executions[0]
    assert (trade.taker_fee, trade.taker_fee_asset) == (Decimal(fee), asset)
    assert trade.maker_fee == 0


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (NewOrder("x", "o", BUY), OutcomeReason.MALFORMED),
        (NewOrder("x", "o", BUY, quantity=Decimal(1), quote_amount=Decimal(1)), OutcomeReason.MALFORMED),
        (NewOrder("x", "o", BUY, quantity=Decimal("NaN"), limit_price=Decimal(1)), OutcomeReason.MALFORMED),
        (NewOrder("x", "o", BUY, quantity=Decimal("-1"), limit_price=Decimal(1)), OutcomeReason.MALFORMED),
        (NewOrder("x", "o", BUY, quantity=Decimal(0), limit_price=Decimal(1)), OutcomeReason.MALFORMED),
        (NewOrder("x", "o", BUY, quantity=Decimal(1), limit_price=Decimal("Infinity")), OutcomeReason.MALFORMED),
        (NewOrder("x", "o", BUY, quote_amount=Decimal("1e500")), OutcomeReason.MALFORMED),
        (NewOrder("x", "o", BUY, quote_amount=Decimal(5), limit_price=Decimal(1)), OutcomeReason.MALFORMED),
        (NewOrder("x", "o", BUY, quantity=Decimal(1), time_in_force=TimeInForce.POST_ONLY), OutcomeReason.MALFORMED),
        (NewOrder("x", "o", BUY, quantity=Decimal("1e500"), limit_price=Decimal(1)), OutcomeReason.OFF_GRID),
        (NewOrder("x", "o", BUY, quantity=Decimal("0.0005"), limit_price=Decimal(1)), OutcomeReason.OFF_GRID),
        (NewOrder("x", "o", BUY, quantity=Decimal(1), limit_price=Decimal("1.001")), OutcomeReason.OFF_GRID),
        (NewOrder("a", "o", BUY, quantity=Decimal(1), limit_price=Decimal(1)), OutcomeReason.ORDER_ID_TAKEN),
        (
            NewOrder("x", "o", BUY, quantity=Decimal(1), limit_price=Decimal(100), time_in_force=TimeInForce.POST_ONLY),
            OutcomeReason.POST_ONLY_WOULD_TAKE,
        ),
    ],
)
def test_bad_order_is_rejected_and_changes_nothing(order: NewOrder, reason: OutcomeReason) -> None:
    engine = engine_with(("a", SELL, "100", "1"))
    outcome = engine.submit(order)
    assert (outcome.state, outcome.reason, outcome.executions) == (OutcomeState.REJECTED, reason, ())
    assert (engine.best_bid(), engine.best_ask(), engine.resting_quantity("a")) == (None, Decimal(100), Decimal(1))


@pytest.mark.parametrize("rate", ["-0.001", "1", "NaN"])
def test_fee_schedule_names_a_bad_rate(rate: str) -> None:
    with pytest.raises(ValueError, match="taker_rate must be a fraction"):
        FeeSchedule(taker_rate=Decimal(rate))
