"""Why an intent is refused: a code, a sentence with the fix where there is one, and the numbers."""

from decimal import Decimal

import msgspec

from shared.domain.money import plain
from shared.messages import RefusalCode


class Refusal(msgspec.Struct, frozen=True):
    """Refuse; `numbers` are `(name, value)` pairs that the sentence is made from."""

    code: RefusalCode
    detail: str
    numbers: tuple[tuple[str, str], ...] = ()


def refuse(code: RefusalCode, detail: str, **numbers: Decimal | int | str | None) -> Refusal:
    """Return a refusal with its numbers."""
    return Refusal(code, detail, tuple((name, _text(value)) for name, value in numbers.items()))


def _text(value: Decimal | int | str | None) -> str:
    # Equal amounts give equal texts, however they were computed.
    return plain(value) if isinstance(value, Decimal) and value.is_finite() else str(value)
