"""What reading a request's parameters has in common at both venues.

In: names and texts. Out: numbers, words, ids; the venue's own error for what is missing or makes no sense.
Never: a value that was not sent.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar


class RequestParams(ABC):
    """Hold what a client sent. A venue says how its numbers and ids are spelt, and what it answers to others."""

    whole: ClassVar[re.Pattern[str]]
    client_id: ClassVar[re.Pattern[str]]
    client_id_range: ClassVar[str]

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    @abstractmethod
    def missing(self, name: str) -> Exception:
        """Return the error of a parameter that is not there or empty."""

    @abstractmethod
    def illegal(self, name: str, legal: str) -> Exception:
        """Return the error of a parameter that is spelt otherwise than `legal`."""

    @abstractmethod
    def not_whole(self, name: str) -> Exception:
        """Return the error of a parameter that is no whole number."""

    def text(self, name: str) -> str:
        """Return a parameter that must be there."""
        value = self._values.get(name)
        if not value:
            raise self.missing(name)
        return value

    def text_or_none(self, name: str) -> str | None:
        """Return a parameter, or None when it was not sent or is empty."""
        return self._values.get(name) or None

    def whole_or_none(self, name: str) -> int | None:
        """Return a whole number, or None when it was not sent."""
        value = self.text_or_none(name)
        if value is None:
            return None
        if not self.whole.fullmatch(value):
            raise self.not_whole(name)
        return int(value)

    def client_id_or_none(self, name: str) -> str | None:
        """Return a client order id in its spelling, or None when it was not sent."""
        value = self.text_or_none(name)
        if value is not None and not self.client_id.fullmatch(value):
            raise self.illegal(name, self.client_id_range)
        return value

    def word[T](self, name: str, words: Mapping[str, T], wrong: Exception | None = None) -> T:
        """Return what a mandatory word means; `wrong` (by default: missing) for one that is not among `words`."""
        value = self.text(name)
        if value not in words:
            raise wrong or self.missing(name)
        return words[value]
