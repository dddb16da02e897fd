from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from services.dashboard.core.board import Board
from services.dashboard.core.chart import equity_chart
from services.dashboard.core.page import page_model
from services.dashboard.core.words import age, money, percent, quantity
from shared.messages import Bbo, FeedState, MarketStatus, OrderState, Side, Trade, TradeBatch
from shared.testing.samples import START_NS, STEP_NS, account, bar, decision, heartbeat, order_event, week


def board(*, markets: tuple[str, ...] = (), **limits: int) -> Board:
    return Board(venue="sandbox", markets=markets, **({"equity_points_max": 1_000, "decisions_max": 10} | limits))


def full_board(now_ns: int = START_NS) -> Board:
    filled = board()
    for message in week(now_ns):
        filled.apply(message)
    return filled


def test_an_empty_board_shows_dashes_and_names_what_is_missing() -> None:
    page = page_model(board(), now_ns=START_NS, mode="sandbox")
    assert (page.equity, page.total_return, page.drawdown, page.trading) == ("–", "–", "–", "unknown")
    assert page.chart is None
    assert {row.state for row in page.services} == {"not heard of"}


def test_the_page_states_equity_return_and_health() -> None:
    page = page_model(full_board(), now_ns=START_NS, mode="sandbox")
    first, last = account(0).equity_usdt, account(41).equity_usdt
    assert first is not None and last is not None
    assert page.equity == f"{last:,.2f}"
    assert page.total_return == f"{(last / first - 1) * 100:+.1f} %"
    assert page.services_ready == 6
    assert [row.instrument for row in page.open_orders] == ["RIVER-USDT"]


def test_a_repeated_decision_is_shown_once() -> None:
    shown = board()
    for _ in range(3):
        shown.apply(decision(1, "upside", "why"))
    assert len(shown.decisions) == 1


def test_a_quiet_look_does_not_push_decisions_out() -> None:
    shown = board(decisions_max=2)
    shown.apply(decision(1, "upside", "why"))
    for step in range(2, 50):
        shown.apply(decision(step, "none", "inside the band"))
    assert [record.action for record in shown.decisions] == ["upside"]
    assert shown.last_look is not None and shown.last_look.decided_at_ns == START_NS + 49 * STEP_NS


def test_an_older_account_never_replaces_a_newer_one() -> None:
    shown = board()
    shown.apply(account(5))
    shown.apply(account(4))
    assert shown.account == account(5)


def test_a_finished_order_leaves_the_open_ones_and_does_not_come_back() -> None:
    shown = board()
    for state in (OrderState.ACCEPTED, OrderState.FILLED, OrderState.ACCEPTED):
        shown.apply(order_event(1, state))
    assert shown.open_orders() == []
    assert [order.state for order in shown.past_orders()] == [OrderState.FILLED]


def test_a_silent_service_is_said_to_be_silent() -> None:
    shown = board()
    shown.apply(heartbeat("risk", START_NS))
    rows = {row.name: row for row in page_model(shown, now_ns=START_NS + 9_000_000_000, mode="sandbox").services}
    assert (rows["risk"].state, rows["risk"].tone) == ("silent", "bad")


def test_an_account_from_before_the_market_is_no_point_of_the_curve() -> None:
    shown = board()
    shown.apply(replace(account(0), as_of_ns=0))
    assert shown.account is not None and shown.equity == []


@settings(deadline=None)
@given(st.integers(2, 5_000), st.integers(2, 60))
def test_the_curve_keeps_its_newest_point_within_its_bound(steps: int, bound: int) -> None:
    shown = board(equity_points_max=bound)
    for step in range(steps):
        shown.apply(account(step))
    assert len(shown.equity) <= bound
    assert shown.equity[-1].at_ns == account(steps - 1).as_of_ns


def test_the_deepest_fall_and_the_start_outlive_the_curve() -> None:
    shown = board(equity_points_max=5)
    for step, equity in enumerate((100, 50, *range(60, 120))):
        shown.apply(replace(account(step), equity_usdt=Decimal(equity)))
    page = page_model(shown, now_ns=START_NS, mode="sandbox")
    assert (page.drawdown, page.total_return) == ("-50.0 %", "+19.0 %")
    assert shown.equity[0].equity == 100


def test_a_thinned_curve_keeps_the_deepest_point() -> None:
    shown = board(equity_points_max=100_000)
    for step in range(4_000):
        shown.apply(account(step))
    chart = equity_chart(shown.equity)
    assert chart is not None
    heights = [float(pair.split(" ")[1]) for pair in chart.line[1:].split("L")]
    values = [point.equity for point in shown.equity]
    assert max(heights) > min(heights)
    assert len(heights) < len(values)
    lowest_drawn = heights.index(max(heights)) / len(heights)
    assert abs(lowest_drawn - values.index(min(values)) / len(values)) < 0.02


def test_numbers_read_well_at_any_size() -> None:
    assert quantity(Decimal("0.0000004469")) == "0.0000004469"
    assert quantity(Decimal("41238571.25")) == "41,238,571"
    assert quantity(Decimal(0)) == "0"
    assert quantity(None) == money(None) == percent(None) == "–"
    assert age(-5) == "0 s"
    assert age(3_700_000_000_000) == "1 h 1 min"


SECOND = 1_000_000_000


def status(state: FeedState, instrument: str | None = None, reason: str = "", at_ns: int = START_NS) -> MarketStatus:
    return MarketStatus("mexc", instrument, state, reason, at_ns)


def trade(price: float, at_ns: int) -> TradeBatch:
    return TradeBatch.of([Trade("mexc", "H-USDT", "t", Side.BUY, price, 1.0, at_ns, at_ns, 1)])


def test_every_mode_says_whose_money_it_is() -> None:
    said = {mode: page_model(board(), now_ns=START_NS, mode=mode) for mode in ("sandbox", "paper", "live", "replay")}
    assert said["sandbox"].money == "sandbox sandbox exchange, no real money"
    assert "paper money" in said["paper"].money and "paper money" in said["replay"].money
    assert {mode for mode, page in said.items() if page.is_real_money} == {"live"}


def test_a_market_shows_its_feed_and_its_newest_prices() -> None:
    shown = board(markets=("H-USDT", "TAO-USDT"))
    shown.apply(status(FeedState.LIVE, reason="live"))
    shown.apply(status(FeedState.STALE, "TAO-USDT", "nothing for 9 s"))
    shown.apply(Bbo("mexc", "H-USDT", 0.1281, 5.0, 0.1283, 5.0, START_NS, START_NS, 1))
    shown.apply(trade(0.1282, START_NS))
    shown.apply(trade(0.1279, START_NS + SECOND))
    shown.apply(trade(0.2, START_NS))  # late: it says nothing about now
    page = page_model(shown, now_ns=START_NS + 3 * SECOND, mode="sandbox")
    one, other = page.markets
    assert (one.state, one.bid, one.ask, one.last, one.moved) == ("live", "0.1281", "0.1283", "0.1279", "down")
    assert one.heard == "2 s ago"
    assert (other.state, other.reason, other.last) == ("stale", "nothing for 9 s", "–")


def test_a_feed_that_falls_silent_is_not_called_live() -> None:
    shown = board(markets=("H-USDT",))
    shown.apply(status(FeedState.LIVE, reason="live"))
    shown.apply(status(FeedState.LIVE, "H-USDT"))
    page = page_model(shown, now_ns=START_NS + 60 * SECOND, mode="sandbox")
    assert page.feed == "market data is silent for 1 min 0 s"
    assert page.markets[0].state == "not known"


def test_a_replay_shows_closes_and_no_quotes() -> None:
    shown = board(markets=("H-USDT",))
    shown.apply(bar(1, "H-USDT", 0.5))
    page = page_model(shown, now_ns=START_NS, mode="replay")
    assert (page.has_quotes, page.markets[0].last, page.markets[0].heard) == (False, "0.5", "–")


def test_an_order_shows_what_was_asked_and_what_came_of_it() -> None:
    shown = board()
    shown.apply(order_event(1, OrderState.FILLED))
    (row,) = page_model(shown, now_ns=START_NS, mode="sandbox").past_orders
    assert (row.asked, row.filled, row.price, row.state) == ("412.6", "412.6", "0.5012", "filled")
    assert row.at == "01-01 04:00:00"
