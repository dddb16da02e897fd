"""A request's parameters, read one by one, with Binance's errors for those that are missing or make no sense.

In: names and texts. Out: numbers, words, ids. Never: a value that was not sent, unless it has a documented default.
"""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qsl

from services.sandbox_exchange.binance.errors import ApiError, illegal, missing
from services.sandbox_exchange.wire.params import RequestParams

NUMBER = re.compile(r"^([0-9]{1,20})(\.[0-9]{1,20})?$")
NUMBER_RANGE = r"^([0-9]{1,20})(\\.[0-9]{1,20})?$"
WHOLE = re.compile(r"^[0-9]{1,20}$")
CLIENT_ID = re.compile(r"^[a-zA-Z0-9-_.:/]{1,36}$")
CLIENT_ID_RANGE = "^[a-zA-Z0-9-_]{1,36}$"
SYMBOL = re.compile(r"^[A-Z0-9-_.]{1,20}$")
SYMBOL_RANGE = "^[A-Z0-9-_.]{1,20}$"
WHOLE_RANGE = "^[0-9]{1,20}$"


class Params(RequestParams):
    """Hold what a client sent."""

    whole, client_id, client_id_range = WHOLE, CLIENT_ID, CLIENT_ID_RANGE

    def missing(self, name: str) -> ApiError:
        """Return the error of a parameter that is not there or empty (-1102)."""
        return missing(name)

    def illegal(self, name: str, legal: str) -> ApiError:
        """Return the error of a parameter that is spelt otherwise than `legal` (-1100)."""
        return illegal(name, legal)

    def not_whole(self, name: str) -> ApiError:
        """Return the error of a parameter that is no whole number."""
        return illegal(name, WHOLE_RANGE)

    @classmethod
    def of_forms(cls, query: str, body: str) -> "Params":
        """Read a query and a form body; the query wins, as Binance documents it."""
        values: dict[str, str] = {}
        for source in (query, body):
            seen: set[str] = set()
            for name, value in parse_qsl(source, keep_blank_values=True):
                if name in seen:
                    raise ApiError(-1101, f"Duplicate values for parameter '{name}'.")
                seen.add(name)
                values.setdefault(name, value)
        return cls(values)

    def renamed(self, names: Mapping[str, str]) -> "Params":
        """Return the parameters under other names: `names` leads from the new name to the one that was sent."""
        values = {name: value for name, value in self._values.items() if name not in names}
        values.update({new: self._values[sent] for new, sent in names.items() if sent in self._values})
        return Params(values)

    def require_known(self, names: AbstractSet[str]) -> None:
        """Refuse parameters that nobody reads (-1104), such as a misspelt client order id."""
        unread = [name for name in self._values if name not in names]
        if unread:
            sent = len(self._values)
            words = f"read '{sent - len(unread)}' parameter(s) but was sent '{sent}'."
            raise ApiError(-1104, f"Not all sent parameters were read; {words}")

    def has(self, name: str) -> bool:
        """Tell whether a parameter was sent, even an empty one."""
        return name in self._values

    def text_or_none(self, name: str) -> str | None:
        """Return a parameter, or None when it was not sent; an empty one is -1105."""
        value = self._values.get(name)
        if value == "":
            raise ApiError(-1105, f"Parameter '{name}' was empty.")
        return value

    def symbol(self, name: str = "symbol") -> str:
        """Return a market's symbol in its spelling; whether there is such a market is not looked at."""
        value = self.text(name)
        if not SYMBOL.fullmatch(value):
            raise illegal(name, SYMBOL_RANGE)
        return value

    def limit(self, default: int, largest: int) -> int:
        """Return `limit`: the default when it was not sent, never more than the largest."""
        value = self.whole_or_none("limit")
        if value is None:
            return default
        if value == 0:
            raise ApiError(-1130, "Data sent for parameter 'limit' is not valid.")
        return min(value, largest)

    def amount_or_none(self, name: str) -> Decimal | None:
        """Return a positive decimal number, or None when it was not sent."""
        value = self.text_or_none(name)
        if value is None:
            return None
        if not NUMBER.fullmatch(value):
            raise illegal(name, NUMBER_RANGE)
        try:
            number = Decimal(value)
        except InvalidOperation:
            raise illegal(name, NUMBER_RANGE) from None
        if number <= 0:
            raise ApiError(-1013, f"Invalid {name}.")
        return number
