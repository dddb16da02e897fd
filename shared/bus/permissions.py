"""Who may say what on the bus: one user per service, each with an allow list for both directions.

In: the names of the services. Out: users with subjects, for the server's configuration. What holds: only risk approves
or refuses, only execution reports orders and accounts, only market_data speaks of the market, a strategy intends only
in its own name, dashboard and cli only command. Everything that is not listed is refused.

The right to make a consumer on a stream is the right to have the server repeat that stream's frames on any subject.
So it is given for few streams, and never to a service for a stream that keeps what the service itself may publish,
except for a strategy on ORDERS, where the server refuses a repetition within `ord.>`.
The right to look a stream's messages up is the right to have an answer sent to any subject. The server marks such a
frame, and consumers bury it. A lookup of a subject cannot tell it: it trusts who may read.
"""

import msgspec

from shared.bus import streams
from shared.bus.subjects import token

ALL_STREAMS = tuple(spec.name for spec in streams.STREAMS)


class StrategyUser(msgspec.Struct, frozen=True):
    """Name a service that intends orders, and the strategy in whose name it does so."""

    service: str
    strategy: str


STRATEGIES = (StrategyUser(service="rebalancer", strategy="cascade"),)


class Role(msgspec.Struct, frozen=True):
    """List what one user may publish and what it may subscribe to."""

    name: str
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def roles(strategies: tuple[StrategyUser, ...] = STRATEGIES) -> tuple[Role, ...]:
    """Return every user of the stack; each strategy is a service of its own."""
    watch = ("md.>", "sig.>", "ord.>", "acct.>", "risk.>", "decision.>", "audit.>", "hb.>", "progress.>", "dead.>")
    return (
        Role(
            name="market_data",
            publish=(*_own("market_data"), "risk.halt", "md.>", *_read(streams.MD_BARS), *_keep("market_data")),
            subscribe=(*_hear("market_data"), "md.>"),
        ),
        *(strategy_role(user) for user in strategies),
        Role(
            name="risk",
            publish=(
                *_own("risk"),
                "risk.halt",
                "risk.state",
                "ord.approved.>",
                "ord.refused.>",
                *_consume(streams.MD_BARS, streams.ORDERS, streams.ACCOUNTS, streams.RISK),
                *_keep("risk"),
            ),
            subscribe=(*_hear("risk"), "md.>", "sig.>", "ord.>", "acct.>"),
        ),
        Role(
            name="execution",
            publish=(
                *_own("execution"),
                "risk.halt",
                "ord.event.>",
                "acct.>",
                *_consume(streams.MD_BARS, streams.ORDERS, streams.RISK),
                *_read(streams.ACCOUNTS),
                *_keep("execution"),
            ),
            subscribe=(*_hear("execution"), "md.>", "ord.approved.>"),
        ),
        Role(
            name="recorder",
            publish=(
                *_presence("recorder"),
                *_consume(*(name for name in ALL_STREAMS if name != streams.DEAD)),
                *_read(streams.DEAD),
                *_keep("recorder"),
            ),
            subscribe=(*_hear("recorder"), *watch),
        ),
        Role(
            name="dashboard",
            publish=(*_presence("dashboard"), "cmd.>", *_read(*ALL_STREAMS)),
            subscribe=("_INBOX.dashboard.>", *watch),
        ),
        Role(
            name="cli",
            publish=("_INBOX.cli.>", "dead.cli", "cmd.>", *_read(*ALL_STREAMS)),
            subscribe=("_INBOX.cli.>", *watch),
        ),
        Role(name="admin", publish=("_INBOX.admin.>", "hb.admin.>", "$JS.API.>"), subscribe=("_INBOX.admin.>",)),
    )


def strategy_role(user: StrategyUser) -> Role:
    """Return the user of a strategy's service, which intends orders in its strategy's name only."""
    service, strategy = token(user.service), token(user.strategy)
    return Role(
        name=service,
        publish=(
            *_own(service),
            "risk.halt",
            f"ord.intent.{strategy}.>",
            f"sig.{strategy}.>",
            *_consume(streams.MD_BARS, streams.ORDERS, streams.ACCOUNTS),
            *_read(streams.RISK),
            *_keep(service),
        ),
        subscribe=(
            *_hear(service),
            "md.>",
            "sig.>",
            f"ord.event.{strategy}.>",
            f"ord.refused.{strategy}",
            "acct.>",
        ),
    )


def _presence(name: str) -> tuple[str, ...]:
    return (f"_INBOX.{name}.>", f"hb.{name}.>", f"progress.{name}", f"dead.{name}")


def _own(name: str) -> tuple[str, ...]:
    return (*_presence(name), f"audit.{name}", f"decision.{name}.>")


def _hear(name: str) -> tuple[str, ...]:
    return (f"_INBOX.{name}.>", f"cmd.{name}.>", "risk.>", "hb.>", "progress.>")


def _read(*names: str) -> tuple[str, ...]:
    allowed: list[str] = []
    for name in names:
        allowed += [f"$JS.API.STREAM.INFO.{name}", f"$JS.API.DIRECT.GET.{name}", f"$JS.API.DIRECT.GET.{name}.>"]
    return tuple(allowed)


def _consume(*names: str) -> tuple[str, ...]:
    allowed = list(_read(*names))
    for name in names:
        allowed += [
            f"$JS.API.CONSUMER.INFO.{name}.*",
            f"$JS.API.CONSUMER.CREATE.{name}.>",
            f"$JS.API.CONSUMER.MSG.NEXT.{name}.*",
            f"$JS.API.CONSUMER.RESET.{name}.*",
            f"$JS.ACK.{name}.>",
            # Newer servers put a domain and an account before the stream.
            f"$JS.ACK.*.*.{name}.>",
        ]
    return tuple(allowed)


def _keep(name: str) -> tuple[str, ...]:
    allowed: list[str] = []
    for bucket in streams.BUCKETS:
        allowed += [f"$KV.{bucket}.{name}", f"$KV.{bucket}.{name}.>", f"$JS.API.DIRECT.GET.KV_{bucket}.>"]
    return tuple(allowed)
