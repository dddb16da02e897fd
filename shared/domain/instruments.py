"""What can be traded and on which grid.

In: a venue's or a replay's facts about a market. Out: instruments whose quantities and prices lie on the grid.
Never: a rounding that increases spend or sells more than is held; a default for a missing tick or step.
"""

from decimal import Decimal

from shared.domain.money import EXACT, multiply
from shared.errors import InputError
from shared.messages.instrument import Instrument

__all__ = ["Instrument", "bus_symbol", "ceil_to_grid", "floor_to_grid", "split_symbol"]

QUOTE_ASSETS = ("USDT", "USDC", "FDUSD", "USD", "BTC", "ETH", "EUR", "BNB")


def split_symbol(text: str) -> tuple[str, str]:
    """Split `BTC-USDT`, `BTC/USDT` or `BTCUSDT` into base and quote.

    Raises InputError when no known quote asset ends the text.
    """
    for separator in ("-", "/"):
        if separator in text:
            base, _, quote = text.partition(separator)
            if base and quote:
                return base.upper(), quote.upper()
    upper = text.upper()
    for quote in QUOTE_ASSETS:
        if upper.endswith(quote) and len(upper) > len(quote):
            return upper[: -len(quote)], quote
    raise InputError(f"asset {text!r} is no market: write it as BASE-QUOTE, for example BTC-USDT")


def bus_symbol(text: str) -> str:
    """Return the bus token `BASE-QUOTE` for any usual spelling of a market."""
    base, quote = split_symbol(text)
    return f"{base}-{quote}"


def floor_to_grid(value: Decimal, grid: Decimal) -> Decimal:
    """Round `value` (at least zero) down to a multiple of `grid` (both in the same unit), exactly."""
    return multiply(EXACT.divide_int(value, grid), grid)


def ceil_to_grid(value: Decimal, grid: Decimal) -> Decimal:
    """Round `value` (at least zero) up to a multiple of `grid` (both in the same unit), exactly."""
    whole, rest = EXACT.divmod(value, grid)
    return multiply(whole + 1 if rest else whole, grid)
