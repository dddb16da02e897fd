"""A request's parameters, read one by one, with MEXC's errors for those that are missing or make no sense.

In: names and texts. Out: numbers, words, ids. Never: a value that was not sent, unless it has a documented default.
"""

import re
from decimal import Decimal
from urllib.parse import parse_qsl

from services.sandbox_exchange.mexc.errors import ApiError, illegal, missing
from services.sandbox_exchange.wire.params import RequestParams

NUMBER = re.compile(r"^[0-9]{1,20}(\.[0-9]{0,20})?$")
WHOLE = re.compile(r"^[0-9]{1,18}$")
CLIENT_ID = re.compile(r"^[a-zA-Z0-9_-]{1,32}$")
CLIENT_ID_RANGE = "^[a-zA-Z0-9-_]{1,32}$"
PAIRS_MAX = 64


class Params(RequestParams):
    """Hold what a client sent."""

    whole, client_id, client_id_range = WHOLE, CLIENT_ID, CLIENT_ID_RANGE

    def missing(self, name: str) -> ApiError:
        """Return the error of a parameter that is not there or empty."""
        return missing(name)

    def illegal(self, name: str, legal: str) -> ApiError:
        """Return the error of a parameter that is spelt otherwise than `legal`."""
        return illegal(name, legal)

    def not_whole(self, name: str) -> ApiError:
        """Return the error of a parameter that is no whole number."""
        return missing(name)

    @classmethod
    def of_query(cls, raw: str) -> "Params":
        """Read a raw query; of a parameter that comes twice the last one counts."""
        try:
            return cls(dict(parse_qsl(raw, keep_blank_values=True, max_num_fields=PAIRS_MAX)))
        except ValueError:
            raise ApiError(700008, "Too many parameters.") from None

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
