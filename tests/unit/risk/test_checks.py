"""Each control: exactly at the limit passes, one tick over refuses, NaN refuses, what is missing refuses."""

from decimal import Decimal

import msgspec
import pytest

from services.risk.core.checks import CHECKS, Approval, Check, judge
from services.risk.core.checks_account import check_balance, check_position, check_reserve
from services.risk.core.checks_flow import check_duplicate, check_open_orders, check_rate, check_self_match
from services.risk.core.checks_order import (
    check_collar,
    check_expiry,
    check_form,
    check_instrument,
    check_precision,
    check_price,
    check_size,
    check_trading_state,
)
from services.risk.core.explain import judge_again, record_of
from services.risk.core.refusal import Refusal
from services.risk.core.view import Account, Price, Quote, View
from shared.messages import (
    Balance,
    FeedState,
    OrderIntent,
    OrderType,
    RefusalCode,
    Side,
    TimeInForce,
    TradingState,
)
from tests.unit.risk.worlds import (
    MINUTE_NS,
    NOW_NS,
    STEP_NS,
    D,
    account,
    corrupt,
    instrument,
    intent,
    limits,
    order,
    view,
)

NAN = Decimal("NaN")
C = RefusalCode
SELL = Side.SELL


def code(result: Approval | Refusal | None) -> RefusalCode | None:
    return result.code if isinstance(result, Refusal) else None


def limit_order(side: Side = Side.BUY, price: str = "100", **changes: object) -> OrderIntent:
    fields = {"type": OrderType.LIMIT, "limit_price": D(price), "price_bound": None} | changes
    return intent("limit-1", side, time_in_force=TimeInForce.GTC, **fields)


def with_balance(free: Decimal, locked: Decimal = Decimal(0), asset: str = "USDT") -> View:
    other = "A" if asset == "USDT" else "USDT"
    balances = (Balance(asset, free, locked), Balance(other, D(2), D(0)))
    return view(account=Account(1, balances, D(1200)))


def test_an_ordinary_order_is_approved_with_its_bounds() -> None:
    result = judge(intent(), view(), limits())
    assert isinstance(result, Approval)
    message = result.message
    assert (message.quantity_max, message.notional_max_usdt, message.price_bound) == (D(1), D(101), D(101))
    assert (message.approved_at_ns, message.expires_at_ns) == (NOW_NS, NOW_NS + MINUTE_NS)


def test_a_market_order_without_a_bound_gets_the_collars() -> None:
    buy, sell = (judge(intent(side=side, price_bound=None), view(), limits()) for side in Side)
    assert isinstance(buy, Approval)
    assert isinstance(sell, Approval)
    assert (buy.message.price_bound, sell.message.price_bound) == (D("105.00"), D("95.00"))


def test_a_bound_off_the_grid_is_rounded_against_the_order() -> None:
    buy = judge(intent(price_bound=D("101.009")), view(), limits())
    sell = judge(intent(side=SELL, price_bound=D("98.991")), view(), limits())
    assert isinstance(buy, Approval)
    assert isinstance(sell, Approval)
    assert (buy.message.price_bound, sell.message.price_bound) == (D("101.00"), D("99.00"))


def test_a_buy_by_amount_binds_the_amount_and_the_most_that_it_can_be() -> None:
    result = judge(intent(quantity=None, quote_amount=D(95)), view(), limits())
    assert isinstance(result, Approval)
    assert (result.message.quantity_max, result.message.notional_max_usdt) == (D("1.000"), D(95))


CASES = [
    # control, passes, refuses, code
    ("expiry", check_expiry, (intent(expires_at_ns=NOW_NS), view()), (intent(expires_at_ns=NOW_NS), view(now_ns=NOW_NS + 1)), C.INTENT_EXPIRED),  # noqa: E501 - a table is read in rows
    ("stale", check_price, (intent(), view(now_ns=NOW_NS + 2 * STEP_NS)), (intent(), view(now_ns=NOW_NS + 2 * STEP_NS + 1)), C.DATA_STALE),  # noqa: E501
    ("skew", check_price, (intent(), view(now_ns=NOW_NS - 5 * 10**9)), (intent(), view(now_ns=NOW_NS - 5 * 10**9 - 1)), C.DATA_STALE),  # noqa: E501
    ("future", check_form, (intent(), view()), (intent(decided_at_ns=NOW_NS + 1), view()), C.INTENT_MALFORMED),
    ("step", check_precision, (intent(quantity=D("1.001")), view()), (intent(quantity=D("1.0011")), view()), C.PRECISION),  # noqa: E501
    ("tick", check_precision, (limit_order(price="99.99"), view()), (limit_order(price="99.991"), view()), C.PRECISION),
    ("quantity_min", check_size, (intent(quantity=D(2)), view(instrument=instrument(quantity_min=D(2)))), (intent(quantity=D("1.999")), view(instrument=instrument(quantity_min=D(2)))), C.QUANTITY_MIN),  # noqa: E501
    ("quantity_min by amount", check_size, (intent(quantity=None, quote_amount=D(200)), view(instrument=instrument(quantity_min=D(2)))), (intent(quantity=None, quote_amount=D("199.99")), view(instrument=instrument(quantity_min=D(2)))), C.QUANTITY_MIN),  # noqa: E501
    ("notional_min", check_size, (intent(quantity=D("0.05")), view()), (intent(quantity=D("0.049")), view()), C.NOTIONAL_MIN),  # noqa: E501
    ("notional_min by amount", check_size, (intent(quantity=None, quote_amount=D(5)), view()), (intent(quantity=None, quote_amount=D("4.99999999")), view()), C.NOTIONAL_MIN),  # noqa: E501
    ("notional_min of the venue", check_size, (intent(quantity=D("0.1")), view(instrument=instrument(notional_min=D(10)))), (intent(quantity=D("0.099")), view(instrument=instrument(notional_min=D(10)))), C.NOTIONAL_MIN),  # noqa: E501
    ("notional_max buy", check_size, (intent(quantity=D(4), price_bound=D(100)), view()), (intent(quantity=D(4), price_bound=D("100.01")), view()), C.NOTIONAL_MAX),  # noqa: E501
    ("notional_max by amount", check_size, (intent(quantity=None, quote_amount=D(400)), view()), (intent(quantity=None, quote_amount=D("400.00000001")), view()), C.NOTIONAL_MAX),  # noqa: E501
    ("notional_max sell", check_size, (intent(side=SELL, quantity=D("3.809")), view()), (intent(side=SELL, quantity=D("3.810")), view()), C.NOTIONAL_MAX),  # noqa: E501
    ("collar above", check_collar, (intent(price_bound=D(105)), view()), (intent(price_bound=D("105.01")), view()), C.PRICE_COLLAR),  # noqa: E501
    ("collar below", check_collar, (intent(side=SELL, price_bound=D(95)), view()), (intent(side=SELL, price_bound=D("94.99")), view()), C.PRICE_COLLAR),  # noqa: E501
    ("collar of a limit", check_collar, (limit_order(price="95"), view()), (limit_order(price="94.99"), view()), C.PRICE_COLLAR),  # noqa: E501
    ("collar to the mid", check_collar, (intent(price_bound=D("103.95")), view(quote=Quote(D(98), D(100), NOW_NS))), (intent(price_bound=D("103.96")), view(quote=Quote(D(98), D(100), NOW_NS))), C.PRICE_COLLAR),  # noqa: E501
    ("balance buy", check_balance, (intent(), with_balance(D(101))), (intent(), with_balance(D("100.99"))), C.BALANCE),
    ("balance by amount", check_balance, (intent(quantity=None, quote_amount=D(101)), with_balance(D(101))), (intent(quantity=None, quote_amount=D("101.01")), with_balance(D(101))), C.BALANCE),  # noqa: E501
    ("balance sell", check_balance, (intent(side=SELL), with_balance(D(1), asset="A")), (intent(side=SELL), with_balance(D("0.999"), asset="A")), C.BALANCE),  # noqa: E501
    ("balance net of buys", check_balance, (intent(), view(orders=(order(price_bound=D("449.5")),))), (intent(), view(orders=(order(price_bound=D("449.51")),))), C.BALANCE),  # noqa: E501
    ("balance net of sells", check_balance, (intent(side=SELL), view(orders=(order(side=SELL, quantity_max=D(1)),))), (intent(side=SELL), view(orders=(order(side=SELL, quantity_max=D("1.001")),))), C.BALANCE),  # noqa: E501
    ("open orders", check_open_orders, (intent(), view(orders=tuple(order(str(n)) for n in range(99)))), (intent(), view(orders=tuple(order(str(n)) for n in range(100)))), C.OPEN_ORDERS),  # noqa: E501
    ("rate per second", check_rate, (intent(), view(orders=tuple(order(str(n)) for n in range(49)))), (intent(), view(orders=tuple(order(str(n)) for n in range(50)))), C.RATE),  # noqa: E501
    ("second over", check_rate, (intent(), view(now_ns=NOW_NS + 10**9, orders=tuple(order(str(n)) for n in range(50)))), (intent(), view(now_ns=NOW_NS + 10**9 - 1, orders=tuple(order(str(n)) for n in range(50)))), C.RATE),  # noqa: E501
    ("rate per minute", check_rate, (intent(), view(now_ns=NOW_NS + MINUTE_NS, orders=tuple(order(str(n)) for n in range(200)))), (intent(), view(now_ns=NOW_NS + MINUTE_NS - 1, orders=tuple(order(str(n)) for n in range(200)))), C.RATE),  # noqa: E501
    ("duplicate window", check_duplicate, (intent(quantity=D(2)), view(now_ns=NOW_NS + MINUTE_NS, orders=(order(),))), (intent(quantity=D(2)), view(now_ns=NOW_NS + MINUTE_NS - 1, orders=(order(),))), C.DUPLICATE),  # noqa: E501
    ("self-match buy", check_self_match, (intent(price_bound=D(101)), view(orders=(order(side=SELL, type=OrderType.LIMIT, limit_price=D("101.01")),))), (intent(price_bound=D(101)), view(orders=(order(side=SELL, type=OrderType.LIMIT, limit_price=D(101)),))), C.SELF_MATCH),  # noqa: E501
    ("self-match sell", check_self_match, (intent(side=SELL), view(orders=(order(type=OrderType.LIMIT, limit_price=D("98.99")),))), (intent(side=SELL), view(orders=(order(type=OrderType.LIMIT, limit_price=D(99)),))), C.SELF_MATCH),  # noqa: E501
    ("reducing", check_trading_state, (intent(side=SELL, quantity=D(2)), view(state=TradingState.REDUCING)), (intent(side=SELL, quantity=D("2.001")), view(state=TradingState.REDUCING)), C.TRADING_REDUCING),  # noqa: E501
]  # fmt: skip


@pytest.mark.parametrize(
    ("check", "passes", "refuses", "expected"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_at_the_limit_passes_and_one_tick_over_refuses(
    check: Check, passes: tuple[OrderIntent, View], refuses: tuple[OrderIntent, View], expected: RefusalCode
) -> None:
    assert check(*passes, limits()) is None
    assert code(check(*refuses, limits())) is expected
    assert code(judge(*refuses, limits())) is not None


def test_the_reserve_is_kept_to_the_last_unit() -> None:
    tight = limits(reserve_floor_usdt=D(899))
    assert check_reserve(intent(), view(), tight) is None
    assert code(check_reserve(intent(price_bound=D("101.01")), view(), tight)) is C.RESERVE_FLOOR
    assert check_reserve(intent(side=SELL), view(), limits(reserve_floor_usdt=D(5_000))) is None


def test_the_reserve_counts_open_buys_as_spent() -> None:
    tight = limits(reserve_floor_usdt=D(697))
    assert check_reserve(intent(), view(orders=(order(),)), tight) is None
    assert code(check_reserve(intent(), view(orders=(order(), order("more", quantity_max=D("0.001")))), tight)) is (
        C.RESERVE_FLOOR
    )


def test_a_position_may_reach_its_share_of_equity_and_no_more() -> None:
    # 2 A are worth 200; 40 % of 1,200 is 480.
    assert check_position(intent(quantity=D("2.8")), view(), limits()) is None
    assert code(check_position(intent(quantity=D("2.801")), view(), limits())) is C.POSITION_LIMIT
    assert check_position(intent(quantity=None, quote_amount=D(280)), view(), limits()) is None
    over = intent(quantity=None, quote_amount=D("280.00000001"))
    assert code(check_position(over, view(), limits())) is C.POSITION_LIMIT
    assert check_position(intent(side=SELL, quantity=D(9)), view(), limits()) is None


def test_open_buys_count_into_the_position_and_open_sells_do_not() -> None:
    buying, selling = view(orders=(order(),)), view(orders=(order(side=SELL),))
    assert check_position(intent(quantity=D("0.8")), buying, limits()) is None
    assert code(check_position(intent(quantity=D("0.801")), buying, limits())) is C.POSITION_LIMIT
    assert code(check_position(intent(quantity=D("2.801")), selling, limits())) is C.POSITION_LIMIT


def test_a_fee_on_top_is_part_of_the_cost() -> None:
    fee = limits(quote_fee_rate=D("0.01"))
    assert check_balance(intent(price_bound=D(100)), with_balance(D(101)), fee) is None
    assert code(check_balance(intent(price_bound=D(100)), with_balance(D("100.99")), fee)) is C.BALANCE


def test_what_others_have_locked_is_never_counted_on() -> None:
    locked = with_balance(D(50), locked=D(1_000))
    assert check_balance(intent(), locked, limits()) is None
    assert code(check_balance(intent(), locked, limits(is_exclusive=False))) is C.BALANCE


def test_a_partly_filled_order_reserves_its_rest() -> None:
    part = order(filled_quantity=D("1.5"), filled_quote=D(150))
    assert part.reserved_quote == D("50.5")
    by_amount = order(quantity=None, quote_amount=D(300), filled_quote=D(120))
    assert by_amount.reserved_quote == D(180)
    assert order(side=SELL, filled_quantity=D("1.5")).reserved_base == D("0.5")
    assert msgspec.structs.replace(part, is_open=False).reserved_quote == 0


def test_halted_refuses_everything_and_reducing_refuses_buys() -> None:
    for side in Side:
        assert code(judge(intent(side=side), view(state=TradingState.HALTED), limits())) is C.TRADING_HALTED
    assert code(judge(intent(), view(state=TradingState.REDUCING), limits())) is C.TRADING_REDUCING
    assert code(judge(intent(side=SELL), view(state=TradingState.REDUCING), limits())) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"instrument": None}, C.INSTRUMENT_UNKNOWN),
        ({"instrument": instrument("B-USDT")}, C.INSTRUMENT_UNKNOWN),
        ({"instrument": instrument("A-BTC")}, C.INSTRUMENT_UNKNOWN),
        ({"feed": FeedState.FROZEN}, C.INSTRUMENT_FROZEN),
        ({"feed": FeedState.STALE}, C.DATA_STALE),
        ({"price": None}, C.PRICE_MISSING),
        ({"price": Price(NAN, NOW_NS)}, C.PRICE_MISSING),
        ({"price": Price(D("Infinity"), NOW_NS)}, C.PRICE_MISSING),
        ({"price": Price(D(0), NOW_NS)}, C.PRICE_MISSING),
        ({"price": Price(D(-1), NOW_NS)}, C.PRICE_MISSING),
        ({"price": Price(D("1e99999"), NOW_NS)}, C.PRICE_MISSING),
        ({"quote": Quote(D(100), D(100), NOW_NS)}, C.DATA_STALE),
        ({"quote": Quote(D(101), D(100), NOW_NS)}, C.DATA_STALE),
        ({"quote": Quote(D(0), D(100), NOW_NS)}, C.PRICE_MISSING),
        ({"quote": Quote(NAN, D(100), NOW_NS)}, C.PRICE_MISSING),
        ({"account": None}, C.BALANCE_UNKNOWN),
        ({"account": account(equity=None)}, C.PRICE_MISSING),
        ({"account": account(equity="NaN")}, C.BALANCE_UNKNOWN),
        ({"account": account(equity="0")}, C.BALANCE_UNKNOWN),
        ({"account": account(usdt="NaN")}, C.BALANCE_UNKNOWN),
        ({"account": account(usdt="Infinity")}, C.BALANCE_UNKNOWN),
        ({"account": account(base="NaN")}, C.BALANCE_UNKNOWN),
        ({"account": account(usdt="-1")}, C.BALANCE_UNKNOWN),
        ({"account": account(usdt="0")}, C.BALANCE),
    ],
)
def test_what_is_missing_or_no_number_refuses(changes: dict[str, object], expected: RefusalCode) -> None:
    assert code(judge(intent(), view(**changes), limits())) is expected


def test_a_book_older_than_the_close_is_superseded() -> None:
    assert code(judge(intent(), view(quote=Quote(D(1), D(2), NOW_NS - 1)), limits())) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": NAN},
        {"quantity": D("Infinity")},
        {"quantity": D(0)},
        {"quantity": D(-1)},
        {"quantity": D("1e999999")},
        {"quantity": D("1e-999999")},
        {"quantity": D("1." + "1" * 80)},
        {"quantity": None},
        {"quote_amount": D(10)},
        {"quantity": None, "quote_amount": NAN},
        {"price_bound": NAN},
        {"limit_price": D(100)},
        {"type": OrderType.LIMIT},
        {"type": OrderType.LIMIT, "limit_price": NAN},
        {"type": OrderType.LIMIT, "limit_price": D(100), "quantity": None, "quote_amount": D(100)},
        {"time_in_force": TimeInForce.POST_ONLY},
        {"intent_id": ""},
        {"intent_id": "two words"},
        {"intent_id": "line\nbreak"},
        {"intent_id": "x" * 200},
        {"strategy": "a.b"},
        {"strategy": "*"},
        {"instrument": "A-USDT.>"},
        {"reason": "x" * 5_000},
        {"correlation_id": "x" * 5_000},
        {"decided_at_ns": -1},
        {"expires_at_ns": NOW_NS - 1},
        {"expires_at_ns": 2**63},
    ],
)
def test_a_malformed_intent_is_refused_by_name(changes: dict[str, object]) -> None:
    bad = corrupt(intent(), **changes)
    assert code(check_form(bad, view(), limits())) is C.INTENT_MALFORMED
    assert code(judge(bad, view(), limits())) is C.INTENT_MALFORMED


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_check_alone_survives_garbage_and_what_needs_data_refuses_without_it(check: Check) -> None:
    bare = view(instrument=None, price=None, account=None)
    needs_nothing = {check_form, check_expiry, check_duplicate, check_open_orders, check_rate, check_trading_state}
    assert (code(check(intent(), bare, limits())) is None) is (check in needs_nothing)
    for amount in (NAN, D("Infinity"), D("1e999999"), D("-0")):
        check(corrupt(intent(), quantity=amount), view(), limits())
        check(corrupt(intent(), price_bound=amount), view(), limits())
        check(intent(), view(price=Price(amount, NOW_NS)), limits())


def test_an_unknown_instrument_is_refused_even_where_the_quote_fits() -> None:
    assert code(check_instrument(intent(instrument="B-USDT"), view(), limits())) is C.INSTRUMENT_UNKNOWN


DUPLICATE = {"quantity": D(2), "correlation_id": "plan-0"}


@pytest.mark.parametrize(
    ("known", "asked", "is_duplicate"),
    [
        ({}, {}, True),
        ({"is_open": False, "filled_quantity": D(2)}, {}, True),
        ({"is_open": False}, {}, False),
        ({}, {"correlation_id": "plan-1"}, True),
        ({"is_open": False, "filled_quantity": D(2)}, {"correlation_id": "plan-1"}, False),
        ({}, {"quantity": D("2.001")}, False),
        ({"instrument": "B-USDT"}, {}, False),
        ({"strategy": "maker"}, {}, False),
        ({"side": SELL}, {}, False),
    ],
)
def test_a_repetition_within_a_plan_or_of_an_open_order_is_a_duplicate(
    known: dict[str, object], asked: dict[str, object], is_duplicate: bool
) -> None:
    result = check_duplicate(intent(**(DUPLICATE | asked)), view(orders=(order(**known),)), limits())
    assert code(result) is (C.DUPLICATE if is_duplicate else None)


def test_a_rebalancer_may_do_the_same_again_with_its_next_plan() -> None:
    later = NOW_NS + 30 * MINUTE_NS
    seen = view(now_ns=later, orders=(order(is_open=False, filled_quantity=D(2)),))
    assert code(check_duplicate(intent(quantity=D(2), correlation_id="plan-2"), seen, limits())) is None


def test_own_market_orders_do_not_rest_and_closed_ones_do_not_match() -> None:
    resting = order(side=SELL, type=OrderType.LIMIT, limit_price=D(100))
    assert check_self_match(intent(), view(orders=(order(side=SELL),)), limits()) is None
    done = msgspec.structs.replace(resting, is_open=False)
    assert check_self_match(intent(), view(orders=(done,)), limits()) is None


def test_a_record_of_a_refusal_judges_the_same_again() -> None:
    seen = view(orders=(order(),), account=account(usdt="100"))
    refusal = judge(intent(), seen, limits())
    assert isinstance(refusal, Refusal)
    record = record_of(intent(), "cascade", seen, limits(), refusal)
    assert judge_again(record) == refusal
    assert "needed = 101" in record.notes
