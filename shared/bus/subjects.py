"""Every subject, built in one place: namespace first, identifiers last, no `.`, `*`, `>` or space in a token."""

import re

from shared.errors import InputError

MD_ALL = "md.>"
ORDERS_ALL = "ord.>"

_FORBIDDEN = frozenset(".*> \t\r\n")


def token(text: str) -> str:
    """Return `text` if it may stand as one token of a subject; raises InputError otherwise."""
    if not text or not _FORBIDDEN.isdisjoint(text):
        raise InputError(f"{text!r} cannot be part of a subject: no dots, spaces, '*' or '>'")
    return text


def trade(venue: str, instrument: str) -> str:
    """Return the subject of an instrument's trades."""
    return f"md.trade.{token(venue)}.{token(instrument)}"


def bbo(venue: str, instrument: str) -> str:
    """Return the subject of an instrument's best bid and offer."""
    return f"md.bbo.{token(venue)}.{token(instrument)}"


def book(venue: str, instrument: str) -> str:
    """Return the subject of an instrument's order book."""
    return f"md.book.{token(venue)}.{token(instrument)}"


def bar(timeframe: str, venue: str, instrument: str) -> str:
    """Return the subject of an instrument's closed bars (kept in the stream MD_BARS)."""
    return f"md.bar.{token(timeframe)}.{token(venue)}.{token(instrument)}"


def bars_closed(timeframe: str, venue: str) -> str:
    """Return the subject that follows the last bar of a close time (kept in the stream MD_BARS, after its bars)."""
    return f"md.closed.{token(timeframe)}.{token(venue)}"


def instrument(venue: str, symbol: str) -> str:
    """Return the subject of an instrument's definition (kept, last one in force)."""
    return f"md.instrument.{token(venue)}.{token(symbol)}"


def status(venue: str) -> str:
    """Return the subject of a venue's feed status."""
    return f"md.status.{token(venue)}"


def signal(strategy: str, symbol: str) -> str:
    """Return the subject of a strategy's signals."""
    return f"sig.{token(strategy)}.{token(symbol)}"


def order_intent(strategy: str, venue: str, symbol: str) -> str:
    """Return the subject of a strategy's intents."""
    return f"ord.intent.{token(strategy)}.{token(venue)}.{token(symbol)}"


def order_approved(venue: str, symbol: str) -> str:
    """Return the subject of approvals; only risk may publish on it."""
    return f"ord.approved.{token(venue)}.{token(symbol)}"


def order_refused(strategy: str) -> str:
    """Return the subject of a strategy's refusals."""
    return f"ord.refused.{token(strategy)}"


def order_event(strategy: str, venue: str, symbol: str) -> str:
    """Return the subject of order events and fills."""
    return f"ord.event.{token(strategy)}.{token(venue)}.{token(symbol)}"


def account(venue: str) -> str:
    """Return the subject of account snapshots; the last one is the truth."""
    return f"acct.{token(venue)}"


RISK_STATE = "risk.state"
RISK_HALT = "risk.halt"


def decision(service: str, strategy: str) -> str:
    """Return the subject of the decision journal."""
    return f"decision.{token(service)}.{token(strategy)}"


def command(service: str, verb: str) -> str:
    """Return the request subject of an operator command."""
    return f"cmd.{token(service)}.{token(verb)}"


def audit(service: str) -> str:
    """Return the subject on which a service records a command before it acts."""
    return f"audit.{token(service)}"


def heartbeat(service: str, instance: str) -> str:
    """Return the subject of an instance's heartbeats."""
    return f"hb.{token(service)}.{token(instance)}"


def progress(service: str) -> str:
    """Return the subject on which a service reports how far in market time it has finished."""
    return f"progress.{token(service)}"


def dead_letter(service: str) -> str:
    """Return the subject of frames that a service could not handle."""
    return f"dead.{token(service)}"


def matches(pattern: str, subject: str) -> bool:
    """Tell whether `subject` falls under `pattern`; `*` stands for one token, a final `>` for one or more."""
    if pattern == subject:
        return True
    wanted = pattern.split(".")
    given = subject.split(".")
    if wanted[-1] == ">":
        if len(given) < len(wanted):
            return False
        wanted.pop()
    elif len(given) != len(wanted):
        return False
    return all(want in ("*", have) for want, have in zip(wanted, given, strict=False))


def concrete(subject: str) -> str:
    """Return `subject` if a message may be published on it; raises InputError otherwise."""
    for part in subject.split("."):
        token(part)
    return subject


_KEY = re.compile(r"[-/_=A-Za-z0-9]+(\.[-/_=A-Za-z0-9]+)*")


def bucket_key(key: str) -> str:
    """Return `key` if a key-value bucket can hold it; raises InputError otherwise."""
    if not _KEY.fullmatch(key):
        raise InputError(f"{key!r} cannot be a key: use letters, digits and any of - / _ = . between them")
    return key
