"""Small parts for tests of the paper venue: instruments, bars, books, requests."""

from collections.abc import Awaitable, Callable
from decimal import Decimal

from shared.exchange.port import OrderRequest, SimulatedVenue
from shared.matching import FeeSchedule, FillModel
from shared.messages import Bar, BarsClosed, Bbo, BookSnapshot, Instrument, OrderType, Side, TimeInForce

HOUR_NS = 3_600_000_000_000
BTC = Instrument("BTC-USDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.0001"), Decimal("0.0002"), Decimal(5))
ETH = Instrument("ETH-USDT", "ETH", "USDT", Decimal("0.01"), Decimal("0.001"), Decimal("0.001"), Decimal(5))

MODEL = FillModel(Decimal(5), Decimal(10), Decimal("0.1"), FeeSchedule(Decimal("0.0002"), Decimal("0.001")))


def bar(
    hour: int,
    close: float,
    *,
    opening: float | None = None,
    high: float | None = None,
    low: float | None = None,
    volume: float = 1e6,
    instrument: str = "BTC-USDT",
) -> Bar:
    """Return the bar that closes at `hour`; what is not given follows from open and close."""
    opening = close if opening is None else opening
    return Bar(
        venue="paper",
        instrument=instrument,
        timeframe="1h",
        open_time_ns=(hour - 1) * HOUR_NS,
        close_time_ns=hour * HOUR_NS,
        open=opening,
        high=max(opening, close) if high is None else high,
        low=min(opening, close) if low is None else low,
        close=close,
        volume=volume,
        quote_volume=None,
        ts_recv_ns=0,
        sequence=hour,
    )


def closed(hour: int, *instruments: str) -> BarsClosed:
    """Return the message that every bar of `hour` was published."""
    return BarsClosed("paper", "1h", hour * HOUR_NS, instruments, (), hour, False)


def bbo(time_ns: int, bid: tuple[float, float], ask: tuple[float, float], instrument: str = "BTC-USDT") -> Bbo:
    """Return the best bid and ask, each `(price, quantity)`."""
    return Bbo("paper", instrument, *bid, *ask, time_ns, 0, 0)


def book(
    time_ns: int,
    bids: tuple[tuple[float, float], ...],
    asks: tuple[tuple[float, float], ...],
    instrument: str = "BTC-USDT",
) -> BookSnapshot:
    """Return a book snapshot."""
    return BookSnapshot("paper", instrument, bids, asks, time_ns, 0, 0)


def market(
    client_order_id: str,
    side: Side,
    *,
    quantity: str | None = None,
    quote: str | None = None,
    bound: str | None = None,
    force: TimeInForce = TimeInForce.IOC,
    instrument: str = "BTC-USDT",
) -> OrderRequest:
    """Return a market order by quantity or by quote amount."""
    return OrderRequest(
        client_order_id,
        instrument,
        side,
        OrderType.MARKET,
        None if quantity is None else Decimal(quantity),
        None if quote is None else Decimal(quote),
        None,
        None if bound is None else Decimal(bound),
        force,
    )


def limit(
    client_order_id: str,
    side: Side,
    quantity: str,
    price: str,
    *,
    force: TimeInForce = TimeInForce.GTC,
    instrument: str = "BTC-USDT",
) -> OrderRequest:
    """Return a limit order."""
    return OrderRequest(
        client_order_id, instrument, side, OrderType.LIMIT, Decimal(quantity), None, Decimal(price), None, force
    )


# A whole life of the venue; each step is repeated after a failure, as a restarted caller would repeat it.
LIFE: tuple[Callable[[SimulatedVenue], Awaitable[object]], ...] = (
    lambda venue: venue.define_instrument(BTC),
    lambda venue: venue.define_instrument(ETH),
    lambda venue: venue.deposit("extra", {"ETH": BTC.notional_min}),
    lambda venue: venue.on_bar(bar(1, 100.0, volume=200.0)),
    lambda venue: venue.on_bar(bar(1, 20.0, instrument="ETH-USDT")),
    lambda venue: venue.on_bars_closed(closed(1, "BTC-USDT", "ETH-USDT")),
    lambda venue: venue.submit(market("m1", Side.BUY, quote="1000")),
    lambda venue: venue.submit(limit("l1", Side.BUY, "12", "90")),
    lambda venue: venue.submit(limit("l2", Side.SELL, "1.5", "120")),
    lambda venue: venue.submit(limit("l3", Side.SELL, "2", "25", instrument="ETH-USDT")),
    lambda venue: venue.on_bar(bar(2, 92.0, opening=100.0, low=85.0, volume=50.0)),
    lambda venue: venue.on_bars_closed(closed(2, "BTC-USDT")),
    lambda venue: venue.on_bbo(bbo(2 * HOUR_NS + 5, (91.0, 3.0), (91.5, 0.5))),
    lambda venue: venue.submit(market("m2", Side.BUY, quantity="0.25")),
    lambda venue: venue.on_bbo(bbo(2 * HOUR_NS + 9, (88.0, 3.0), (89.0, 1.5))),
    lambda venue: venue.cancel("l3", "ETH-USDT"),
    lambda venue: venue.on_bar(bar(3, 125.0, opening=92.0, high=126.0)),
    lambda venue: venue.on_bar(bar(3, 26.0, opening=20.0, instrument="ETH-USDT")),
    lambda venue: venue.on_bars_closed(closed(3, "BTC-USDT", "ETH-USDT")),
)
