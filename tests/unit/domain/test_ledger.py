from collections import defaultdict
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.ledger import Ledger, LedgerEntry
from shared.domain.money import QUANTUM, ZERO, add, multiply, subtract
from shared.errors import IntegrityError
from shared.messages import Fill, Liquidity, Side

PRICES = st.decimals(min_value="0.00000001", max_value="100000", places=8)
QUANTITIES = st.decimals(min_value="0.000001", max_value="1000", places=6)
RATES = st.sampled_from([Decimal(0), Decimal("0.0005"), Decimal("0.001"), Decimal("0.00173")])
FEE_MODES = st.sampled_from(["get", "quote", "base"])
TRADES = st.lists(
    st.tuples(st.sampled_from(["A", "B"]), st.sampled_from(Side), PRICES, QUANTITIES, RATES, FEE_MODES), max_size=25
)
Trade = tuple[str, Side, Decimal, Decimal, Decimal, str]
Trades = list[Trade]


def make_fill(number: int, trade: Trade) -> Fill:
    base, side, price, quantity, rate, mode = trade
    in_base = mode == "base" or (mode == "get" and side is Side.BUY)
    fee = multiply(quantity, rate) if in_base else multiply(multiply(price, quantity), rate)
    return Fill(f"f{number}", price, quantity, fee, base if in_base else "USDT", Liquidity.TAKER, number)


def traded(trades: Trades, deposit: Decimal = Decimal(10**12)) -> tuple[Ledger, list[tuple[str, Side, Fill]]]:
    ledger = Ledger("USDT")
    ledger.book_deposit("start", deposit, 0)
    booked = []
    for number, trade in enumerate(trades):
        base, side = trade[:2]
        fill = make_fill(number, trade)
        try:
            ledger.book_fill(f"{base}-USDT", side, fill)
        except IntegrityError:
            continue
        booked.append((base, side, fill))
    return ledger, booked


@given(TRADES)
def test_every_entry_sums_to_zero_for_each_asset(trades: Trades) -> None:
    ledger, _ = traded(trades)
    for entry in ledger.entries:
        sums: dict[str, Decimal] = defaultdict(Decimal)
        for posting in entry.postings("USDT"):
            sums[posting.asset] = add(sums[posting.asset], posting.amount)
        assert set(sums.values()) <= {ZERO}


@given(TRADES)
def test_each_fill_conserves_value_to_the_last_decimal(trades: Trades) -> None:
    ledger = Ledger("USDT")
    ledger.book_deposit("start", Decimal(10**12), 0)
    for base, side, fill in traded(trades)[1]:
        before = ledger.balances()
        ledger.book_fill(f"{base}-USDT", side, fill)
        cash = subtract(ledger.balance("USDT"), before["USDT"])
        assets = subtract(ledger.balance(base), before.get(base, ZERO))
        fee_value = fill.fee if fill.fee_asset == "USDT" else multiply(fill.fee, fill.price)
        assert add(add(cash, multiply(assets, fill.price)), fee_value) == 0


@given(TRADES)
def test_balances_are_the_sum_of_the_entries(trades: Trades) -> None:
    ledger, _ = traded(trades)
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for entry in ledger.entries:
        for posting in entry.postings("USDT"):
            if posting.account == "holdings":
                sums[posting.asset] = add(sums[posting.asset], posting.amount)
    assert ledger.balances() == dict(sorted(sums.items()))
    assert all(amount >= 0 for amount in ledger.balances().values())
    assert {asset: holding.quantity for asset, holding in ledger.holdings().items()} == {
        asset: amount for asset, amount in ledger.balances().items() if asset != "USDT"
    }


@given(TRADES, PRICES, PRICES)
def test_equity_changes_by_realised_and_unrealised_minus_fees(trades: Trades, mark_a: Decimal, mark_b: Decimal) -> None:
    ledger, _ = traded(trades)
    marks = {"A": mark_a, "B": mark_b}
    equity, profit = ledger.balance("USDT"), ZERO
    for asset, holding in ledger.holdings().items():
        value = multiply(holding.quantity, marks[asset])
        equity = add(equity, value)
        profit = add(profit, add(holding.realized, subtract(value, holding.cost)))
    assert equity == add(Decimal(10**12), subtract(profit, ledger.fees_quote))


@given(st.lists(st.tuples(PRICES, QUANTITIES), min_size=1, max_size=5), PRICES, st.integers(1, 999))
def test_splitting_a_fill_at_one_price_leaves_realised_profit(
    buys: list[tuple[Decimal, Decimal]], price: Decimal, thousandths: int
) -> None:
    def realized(parts: list[Decimal]) -> Decimal:
        ledger, _ = traded([("A", Side.BUY, at, quantity, ZERO, "get") for at, quantity in buys])
        for number, part in enumerate(parts):
            ledger.book_fill("A-USDT", Side.SELL, Fill(f"s{number}", price, part, ZERO, "USDT", Liquidity.TAKER, 1))
        return ledger.holdings()["A"].realized

    held = sum((quantity for _, quantity in buys), ZERO)
    first = multiply(held, Decimal(thousandths).scaleb(-3))
    assert abs(realized([held]) - realized([first, subtract(held, first)])) <= 2 * QUANTUM


@given(TRADES)
def test_a_replayed_ledger_equals_the_live_one(trades: Trades) -> None:
    ledger, _ = traded(trades)
    stored = msgspec.json.encode(ledger.entries)
    again = Ledger.replay("USDT", msgspec.json.decode(stored, type=list[LedgerEntry]))
    assert again.balances() == ledger.balances()
    assert again.holdings() == ledger.holdings()
    assert again.fees_quote == ledger.fees_quote
    assert again.entries == ledger.entries


@given(TRADES)
def test_booking_everything_twice_is_booking_it_once(trades: Trades) -> None:
    ledger, booked = traded(trades)
    sequence, balances = ledger.sequence, ledger.balances()
    for base, side, fill in booked:
        assert ledger.book_fill(f"{base}-USDT", side, fill) is None
    assert ledger.book_deposit("start", Decimal(10**12), 0) is None
    assert (ledger.sequence, ledger.balances()) == (sequence, balances)


def sample_ledger() -> Ledger:
    ledger = Ledger("USDT")
    ledger.book_deposit("start", Decimal(1000), 0)
    ledger.book_fill("A-USDT", Side.BUY, make_fill(1, ("A", Side.BUY, Decimal(10), Decimal(20), ZERO, "get")))
    return ledger


def test_a_fill_id_with_other_content_is_an_integrity_error_and_changes_nothing() -> None:
    ledger = sample_ledger()
    other = make_fill(1, ("A", Side.BUY, Decimal(11), Decimal(20), ZERO, "get"))
    with pytest.raises(IntegrityError):
        ledger.book_fill("A-USDT", Side.BUY, other)
    with pytest.raises(IntegrityError):
        ledger.book_fill("A-USDT", Side.SELL, make_fill(1, ("A", Side.SELL, Decimal(10), Decimal(20), ZERO, "get")))
    assert ledger.sequence == 2
    assert ledger.balance("USDT") == 800


def test_selling_more_than_is_held_is_an_integrity_error_and_changes_nothing() -> None:
    ledger = sample_ledger()
    with pytest.raises(IntegrityError):
        ledger.book_fill("A-USDT", Side.SELL, make_fill(2, ("A", Side.SELL, Decimal(10), Decimal(21), ZERO, "get")))
    with pytest.raises(IntegrityError):
        ledger.book_fill("B-USDT", Side.BUY, make_fill(3, ("B", Side.BUY, Decimal(1), Decimal("800.01"), ZERO, "get")))
    assert ledger.balances() == {"A": Decimal(20), "USDT": Decimal(800)}
    assert "B" not in ledger.holdings()


def test_average_cost_and_realised_profit_of_a_worked_example() -> None:
    ledger = sample_ledger()
    ledger.book_fill("A-USDT", Side.BUY, make_fill(2, ("A", Side.BUY, Decimal(20), Decimal(20), ZERO, "get")))
    assert ledger.holdings()["A"].average_price == 15
    ledger.book_fill(
        "A-USDT", Side.SELL, make_fill(3, ("A", Side.SELL, Decimal(18), Decimal(10), Decimal("0.001"), "get"))
    )
    holding = ledger.holdings()["A"]
    assert (holding.quantity, holding.cost, holding.realized) == (30, 450, 30)
    assert ledger.fees_quote == Decimal("0.18")


def test_a_fee_in_a_third_asset_leaves_that_position_at_cost() -> None:
    ledger = sample_ledger()
    ledger.book_fill("BNB-USDT", Side.BUY, Fill("b", Decimal(300), Decimal(1), ZERO, "USDT", Liquidity.TAKER, 2))
    ledger.book_fill(
        "A-USDT", Side.SELL, Fill("c", Decimal(12), Decimal(5), Decimal("0.01"), "BNB", Liquidity.TAKER, 3)
    )
    assert ledger.balance("BNB") == Decimal("0.99")
    assert ledger.holdings()["BNB"].cost == 297
    assert ledger.fees_quote == 3
    assert ledger.holdings()["A"].realized == 10


def test_transfers_move_equity_by_their_value() -> None:
    ledger = sample_ledger()
    ledger.book_transfer("in", "A", Decimal(5), Decimal(12), 3)
    ledger.book_transfer("out", "USDT", Decimal(-100), Decimal(1), 4)
    assert ledger.balances() == {"A": Decimal(25), "USDT": Decimal(700)}
    assert ledger.holdings()["A"].cost == 260
    assert ledger.book_transfer("out", "USDT", Decimal(-100), Decimal(1), 4) is None


@pytest.mark.parametrize("amount", ["0", "-1"])
def test_a_deposit_must_be_positive(amount: str) -> None:
    with pytest.raises(IntegrityError):
        Ledger("USDT").book_deposit("start", Decimal(amount), 0)


def test_a_gap_in_stored_entries_is_noticed() -> None:
    entries = sample_ledger().entries
    with pytest.raises(IntegrityError):
        Ledger.replay("USDT", entries[1:])
