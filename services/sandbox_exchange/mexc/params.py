"""A request's parameters, read one by one, with MEXC's errors for those that are missing or make no sense.

In: names and texts. Out: numbers, words, ids. Never: a value that was not sent, unless it has a documented default.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from urllib.parse import parse_qsl

from services.sandbox_exchange.mexc.errors import ApiError, illegal, missing

NUMBER = re.compile(r"^[0-9]{1,20}(\.[0-9]{0,20})?$")
WHOLE = re.compile(r"^[0-9]{1,18}$")
CLIENT_ID = re.compile(r"^[a-zA-Z0-9_-]{1,32}$")
CLIENT_ID_RANGE = "^[a-zA-Z0-9-_]{1,32}$"
PAIRS_MAX = 64


class Params:
    """Hold what a client sent."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    @classmethod
    def of_query(cls, raw: str) -> "Params":
        """Read a raw query; of a parameter that comes twice the last one counts."""
        try:
            return cls(dict(parse_qsl(raw, keep_blank_values=True, max_num_fields=PAIRS_MAX)))
        except ValueError:
            raise ApiError(700008, "Too many parameters.") from None

    def text(self, name: str) -> str:
        """Return a parameter that must be there."""
        value = self._values.get(name)
        if not value:
            raise missing(name)
        return value

    def text_or_none(self, name: str) -> str | None:
        """Return a parameter, or None when it was not sent or is empty."""
        return self._values.get(name) or None

    def whole_or_none(self, name: str) -> int | None:
        """Return a whole number, or None when it was not sent."""
        value = self.text_or_none(name)
        if value is None:
            return None
        if not WHOLE.fullmatch(value):
            raise missing(name)
        return int(value)

    def limit(self, default: int, largest: int) -> int:
        """Return `limit`: the default when it was not sent, never more than the largest."""
        value = self.whole_or_none("limit")
        return min(value or default, largest)

    def amount_or_none(self, name: str, wrong: ApiError) -> Decimal | None:
        """Return a positive decimal number, or None when it was not sent; `wrong` for zero and below."""
        value = self.text_or_none(name)
        if value is None:
            return None
        if not NUMBER.fullmatch(value.removeprefix("-")):
            raise missing(name)
        number = Decimal(value)
        if number <= 0:
            raise wrong
        return number

    def client_id_or_none(self, name: str) -> str | None:
        """Return a client order id, or None when it was not sent."""
        value = self.text_or_none(name)
        if value is not None and not CLIENT_ID.fullmatch(value):
            raise illegal(name, CLIENT_ID_RANGE)
        return value

    def word[T](self, name: str, words: Mapping[str, T]) -> T:
        """Return what a mandatory word means."""
        value = self.text(name)
        if value not in words:
            raise missing(name)
        return words[value]
