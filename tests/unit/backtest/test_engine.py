"""The engine's steps by hand: when orders fill, at which price, how much of them, and what becomes of the rest."""

from decimal import Decimal

import msgspec
import pytest

from services.backtest.config import BacktestSettings
from services.backtest.core import Answer, Engine, FillTiming, StepClosed, StrategyEvent, StrategyParams
from services.backtest.core.conservation import check_balances, check_books
from services.backtest.core.log import RunLog
from services.backtest.core.outcome import fill_rows, rebalances
from services.backtest.core.rebalancing import Rebalancing, with_assets
from services.backtest.core.strategy import NOTHING
from services.execution.config import ExecutionConfig
from services.rebalancer.config import RebalanceConfig
from services.risk.config import RiskConfig
from shared.config import timeframe_ns
from shared.domain.digests import unique_fills
from shared.domain.ledger import Ledger
from shared.errors import IntegrityError
from shared.messages import Balance, OrderIntent, OrderState, OrderType, Side, TimeInForce
from tests.unit.backtest.worlds import (
    ABC,
    PLAIN,
    STEP_NS,
    TableFeed,
    candle,
    closes_feed,
    instrument,
    run,
    violent_feed,
    with_timing,
)

D = Decimal
AB = ("A-USDT", "B-USDT")


def rebalancer(settings: BacktestSettings = PLAIN, assets: tuple[str, ...] = ABC) -> Rebalancing:
    return Rebalancing(with_assets(settings.rebalancer, assets))


def fills(log: RunLog) -> list[tuple[str, str, Decimal, Decimal]]:
    found = unique_fills(log.events)
    return [(one.instrument[0], one.side.value, one.fill.price, one.fill.quantity) for one in found if one.fill]


def test_cascade_by_hand_without_costs() -> None:
    # 7,000 of 10,000 in three parts; A rises by half, is 0.5 / 1.1667 - 1 = +28.6 %; then doubles: +50 %.
    log = run(closes_feed([(10, 20, 40), (15, 20, 40), (20, 20, 40)]), PLAIN, rebalancer())
    first, second = log.plans
    assert (first.opened.direction, second.opened.direction) == ("allocate", "upside")
    assert second.opened.asset == "A-USDT"
    assert second.opened.deviation == pytest.approx(D("0.5"), abs=D("1e-5"))
    part = D("2333.3333")
    assert fills(log)[0] == ("A", "buy", D(10), D("233.3333"))
    sold = D("233.3333") * D("0.2")
    assert fills(log)[3] == ("A", "sell", D(20), sold.quantize(D("0.0001"), "ROUND_DOWN"))
    proceeds = fills(log)[3][3] * 20
    each = proceeds * D("0.7") / 2
    assert fills(log)[4][3] * 20 == pytest.approx(each, abs=D("0.002"))
    assert fills(log)[5][3] * 40 == pytest.approx(each, abs=D("0.004"))
    assert log.equity[-1] == pytest.approx(D(10_000) + part, abs=D("0.01"))


def test_orders_fill_at_the_deciding_close_or_at_the_next_open() -> None:
    rows = [
        [candle("A-USDT", 10.0), candle("B-USDT", 20.0)],
        [candle("A-USDT", 12.0, opening=10.1), candle("B-USDT", 20.0, opening=20.2)],
        [candle("A-USDT", 12.0), candle("B-USDT", 20.0)],
    ]
    feed = TableFeed(rows, [instrument(asset) for asset in AB])
    at_close = run(feed, PLAIN, rebalancer(assets=AB))
    at_open = run(feed, with_timing(PLAIN, FillTiming.NEXT_OPEN), rebalancer(assets=AB))
    assert [one[:3] for one in fills(at_close)] == [("A", "buy", D(10)), ("B", "buy", D(20))]
    assert [one[:3] for one in fills(at_open)] == [("A", "buy", D("10.1")), ("B", "buy", D("20.2"))]
    assert [one.ts_event_ns for one in unique_fills(at_open.events)] == [at_open.times_ns[0] + 1] * 2
    assert at_open.equity[0] == 10_000, "nothing is held before the next open"
    assert at_open.equity[1] == D(10_000) + fills(at_open)[0][3] * D("1.9") - fills(at_open)[1][3] * D("0.2")


def test_sells_and_the_buys_that_they_pay_for_fill_at_the_same_open() -> None:
    table = [(10, 20, 40), (10, 20, 40), (20, 20, 40), (20, 20, 40)]
    log = run(closes_feed(table), with_timing(PLAIN, FillTiming.NEXT_OPEN), rebalancer())
    times = {one.ts_event_ns for one in unique_fills(log.events)[3:]}
    assert times == {log.times_ns[2] + 1}
    assert [one[1] for one in fills(log)[3:]] == ["sell", "buy", "buy"]


def test_order_decided_on_the_last_bar_is_never_sent_at_a_next_open() -> None:
    log = run(closes_feed([(10, 20, 40)]), with_timing(PLAIN, FillTiming.NEXT_OPEN), rebalancer())
    assert not log.events
    assert len(log.unsent) == 3


def test_order_whose_market_has_no_next_bar_expires() -> None:
    rows = [
        [candle("A-USDT", 10.0), candle("B-USDT", 20.0)],
        [candle("A-USDT", 10.0)],
        [candle("A-USDT", 10.0), candle("B-USDT", 20.0)],
        [candle("A-USDT", 10.0), candle("B-USDT", 20.0)],
    ]
    feed = TableFeed(rows, [instrument(asset) for asset in AB])
    log = run(feed, with_timing(PLAIN, FillTiming.NEXT_OPEN), rebalancer(assets=AB))
    denied = [order for order in log.orders if order.state is OrderState.DENIED]
    assert [order.intent.instrument for order in denied] == ["B-USDT"]
    assert "expired" in denied[0].reason


def test_price_beyond_the_bound_at_the_next_open_does_not_fill() -> None:
    rows = [
        [candle("A-USDT", 10.0), candle("B-USDT", 20.0)],
        [candle("A-USDT", 11.0, opening=10.5), candle("B-USDT", 20.0)],
    ]
    feed = TableFeed(rows, [instrument(asset) for asset in AB])
    log = run(feed, with_timing(PLAIN, FillTiming.NEXT_OPEN), rebalancer(assets=AB))
    assert [(order.intent.instrument[0], order.state.value, order.reason) for order in log.orders] == [
        ("A", "canceled", "price_bound"),
        ("B", "filled", ""),
    ]


def test_volume_share_caps_a_fill_and_the_rest_is_cancelled() -> None:
    execution = msgspec.structs.replace(PLAIN.execution, volume_share_max=D("0.1"))
    settings = msgspec.structs.replace(PLAIN, execution=execution)
    rows = [[candle("A-USDT", 10.0, volume=1_000.0), candle("B-USDT", 20.0)]]
    log = run(TableFeed(rows, [instrument(asset) for asset in AB]), settings, rebalancer(assets=AB))
    assert fills(log)[0] == ("A", "buy", D(10), D(100))
    assert [order.state.value for order in log.orders] == ["canceled", "filled"]
    assert log.orders[0].reason == "volume_cap"


def test_spread_slippage_and_fee_are_charged_exactly() -> None:
    costs = ExecutionConfig(
        half_spread_bps=D(10), slippage_bps=D(20), maker_fee_rate=D("0.002"), taker_fee_rate=D("0.002")
    )
    settings = msgspec.structs.replace(PLAIN, execution=costs)
    log = run(closes_feed([(10, 20), (10, 20)], AB), settings, rebalancer(assets=AB))
    rows = fill_rows(log, "USDT")
    assert [row.price for row in rows] == [D("10.03"), D("20.06")]
    assert all(row.fee == row.quantity * D("0.002") and row.fee_asset != "USDT" for row in rows)
    plan = rebalances(log, rows)[0]
    fees = sum(row.notional * D("0.002") for row in rows)
    slippage = sum(row.quantity * (row.price - ideal) for row, ideal in zip(rows, (10, 20), strict=True))
    assert plan.fees_quote == fees
    assert plan.cost_quote == fees + slippage
    # At the close, the fee in the asset is worth a little less than at the price that was paid.
    assert log.equity[0] == 10_000 - slippage - sum(row.fee * c for row, c in zip(rows, (10, 20), strict=True))


def test_missing_bar_holds_price_and_weight_and_stops_plans() -> None:
    rows = [
        [candle("A-USDT", 10.0), candle("B-USDT", 20.0)],
        [candle("A-USDT", 40.0)],
        [candle("A-USDT", 40.0), candle("B-USDT", 20.0)],
    ]
    feed = TableFeed(rows, [instrument(asset) for asset in AB])
    log = run(feed, PLAIN, rebalancer(assets=AB))
    assert [plan.at_ns for plan in log.plans] == [log.times_ns[0], log.times_ns[2]]
    assert log.quantities[0] == log.quantities[1]
    assert log.equity[1] == log.quote[0] + log.quantities[0][0] * 40 + log.quantities[0][1] * 20
    assert any("price of B-USDT is missing" in note for record in log.decisions for note in record.notes)


def test_late_listing_starts_when_the_last_asset_is_listed() -> None:
    rows = [[candle("A-USDT", 10.0)], [candle("A-USDT", 10.0)], [candle("A-USDT", 10.0), candle("B-USDT", 20.0)]]
    log = run(TableFeed(rows, [instrument(asset) for asset in AB]), PLAIN, rebalancer(assets=AB))
    assert [plan.at_ns for plan in log.plans] == [log.times_ns[2]]
    assert log.equity[:2] == [D(10_000)] * 2


def test_refusals_are_counted_and_explained() -> None:
    settings = msgspec.structs.replace(PLAIN, risk=RiskConfig(notional_max_usdt=D(1_000), position_limit=D(1)))
    log = run(closes_feed([(10, 20, 40)]), settings, rebalancer())
    assert [one.code.value for one in log.refusals] == ["notional_max"] * 3
    assert not fills(log)
    legs = rebalances(log, fill_rows(log, "USDT"))[0].legs
    assert [leg.state for leg in legs] == ["refused"] * 3
    assert "notional_max" in legs[0].detail


class Limits:
    """Buy with one resting limit order, placed on the first bar."""

    name = "limits"
    assets = ("A-USDT",)
    warmup_bars = 0

    def __init__(self, price: str, *, warmup_bars: int = 0) -> None:
        self._price = D(price)
        self.warmup_bars = warmup_bars
        self.heard: list[str] = []

    def first_state(self) -> bool:
        return False

    def decide(self, state: bool, event: StrategyEvent, params: StrategyParams, now_ns: int) -> tuple[bool, Answer]:
        self.heard.append(type(event).__name__)
        if state or not isinstance(event, StepClosed):
            return state, NOTHING
        intent = OrderIntent(
            intent_id="one",
            strategy=self.name,
            venue=params.venue,
            instrument="A-USDT",
            side=Side.BUY,
            type=OrderType.LIMIT,
            quantity=D(10),
            quote_amount=None,
            limit_price=self._price,
            price_bound=None,
            time_in_force=TimeInForce.GTC,
            decided_at_ns=event.close_time_ns,
            expires_at_ns=event.close_time_ns + STEP_NS,
            reason="a dip",
            correlation_id="one",
        )
        return True, Answer((intent,))


def test_resting_limit_order_fills_within_a_later_bar_and_locks_its_money() -> None:
    rows = [[candle("A-USDT", 10.0)], [candle("A-USDT", 10.0)], [candle("A-USDT", 10.2, opening=9.5)]]
    strategy = Limits("9.8")
    log = run(TableFeed(rows, [instrument("A-USDT")]), PLAIN, strategy)
    assert fills(log) == [("A", "buy", D("9.5"), D(10))], "it opened through the price"
    assert log.quote == [D(10_000), D(10_000), D(9_905)]
    (order,) = log.orders
    assert order.state is OrderState.FILLED
    moved = [name for name in strategy.heard if name == "OrderMoved"]
    assert len(moved) >= 3
    assert strategy.heard[-1] == "StepClosed", "the fill is told before the bar that caused it closes"


def test_order_within_the_declared_warm_up_is_a_programmer_error() -> None:
    feed = TableFeed([[candle("A-USDT", 10.0)]] * 3, [instrument("A-USDT")])
    with pytest.raises(IntegrityError, match="warm-up of 2 bars"):
        run(feed, PLAIN, Limits("9.8", warmup_bars=2))


def test_every_run_balances_its_books() -> None:
    for seed in range(3):
        log = run(violent_feed(seed, 120), BacktestSettings(), rebalancer(BacktestSettings()))
        assert len(log.entries) > 5


def test_books_that_do_not_balance_are_noticed() -> None:
    feed = violent_feed(1, 60)
    engine = Engine(PLAIN.engine("4h", timeframe_ns("4h")), rebalancer(), feed)
    engine.run()
    desk = engine.desk
    fine = desk.paper.balances()
    check_books(desk.ledger, fine, desk.marks)
    dust = [msgspec.structs.replace(one, free=one.free + D("1e-18")) for one in fine]
    with pytest.raises(IntegrityError, match="the venue holds"):
        check_balances(desk.ledger, dust)
    with pytest.raises(IntegrityError, match="the venue holds"):
        check_balances(desk.ledger, fine[1:])
    desk.ledger._balances["USDT"] += D("1e-18")
    with pytest.raises(IntegrityError, match="the entries sum up to"):
        held = [Balance(asset, amount, D(0)) for asset, amount in desk.ledger.balances().items()]
        check_books(desk.ledger, held, desk.marks)


def test_equity_that_nobody_can_explain_is_noticed() -> None:
    ledger = Ledger("USDT")
    ledger.book_deposit("initial", D(100), 0)
    ledger.fees_quote = D(1)
    with pytest.raises(IntegrityError, match="deposits, profits and fees explain 99"):
        check_books(ledger, [Balance("USDT", D(100), D(0))], {})


def test_endless_answers_end_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.backtest.core.engine.ANSWERS_MAX", 3)
    with pytest.raises(IntegrityError, match="does not come to an end"):
        run(closes_feed([(10, 20, 40)]), PLAIN, rebalancer())


def test_same_run_twice_is_the_same_run() -> None:
    feed, rules = violent_feed(7, 100), RebalanceConfig(assets=ABC)
    one, other = (run(feed, BacktestSettings(), Rebalancing(rules)) for _ in range(2))
    assert one == other


def test_a_timing_given_as_a_word_is_that_timing() -> None:
    assert BacktestSettings(fills="close").fills is FillTiming.CLOSE
    with pytest.raises(ValueError, match="neither"):
        BacktestSettings(fills="neither")
