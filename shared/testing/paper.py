"""Small parts for tests of the paper venue: instruments, bars, books, requests."""

from decimal import Decimal

from shared.exchange.port import OrderRequest
from shared.messages import Bar, BarsClosed, Bbo, BookSnapshot, Instrument, OrderType, Side, TimeInForce

HOUR_NS = 3_600_000_000_000
BTC = Instrument("BTC-USDT", "BTC", "USDT", Decimal("0.01"), Decimal("0.0001"), Decimal("0.0002"), Decimal(5))
ETH = Instrument("ETH-USDT", "ETH", "USDT", Decimal("0.01"), Decimal("0.001"), Decimal("0.001"), Decimal(5))


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
