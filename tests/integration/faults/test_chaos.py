"""Everything at once, by seed: faults of every kind, orders, cancels, fills, the service killed between any two steps.

The sandbox's ledger is the truth: one order an intent, each fill booked once, balances equal to the last digit, each
event told once, a second reconciliation silent. What the seed chose is printed when a test fails.
"""

from pathlib import Path
from random import Random

import pytest

from services.execution.faults import POINTS
from services.sandbox_exchange.core.faults import FaultName as F
from shared.messages import OrderState as S
from tests.integration.faults.rig import CANCEL, CREATE, OPEN, QUERY, VENUES, SandboxRig, sandbox_rig

STEPS = 12
KINDS = ("quote", "bounded", "limit", "limit", "fok", "sell")
# Parameters are chosen so that nothing waits for long; each switch goes off once, and may meet any other.
FAULTS: tuple[tuple[F, dict[str, object]], ...] = (
    *((name, {"route": route}) for name in (F.HTTP_5XX, F.HTTP_5XX_AFTER, F.RESET_BEFORE, F.RESET_AFTER)
      for route in (CREATE, CANCEL, QUERY)),
    *((name, {"route": route}) for name in (F.TIMEOUT_BEFORE, F.TIMEOUT_AFTER) for route in (CREATE, CANCEL)),
    *((name, {"route": CREATE, "parameter": parameter}) for name in (F.HTML_200, F.EMPTY_200) for parameter in (0, 1)),
    (F.HTML_200, {"route": QUERY}), (F.EMPTY_200, {"route": CANCEL}), (F.LATENCY, {"parameter": 0.1, "times": 5}),
    (F.ORDER_NOT_FOUND, {"parameter": 0.3}), (F.FILL_BEFORE_REPLY, {"route": CREATE, "parameter": 0.2}),
    (F.PARTIAL_FILL, {"route": CREATE, "parameter": 0.5}), (F.REPORT_DUPLICATE, {"times": 3}),
    (F.REPORT_REORDER, {"times": 2}), (F.REPORT_DROP, {"times": 2}), (F.SOCKET_KILL, {}), (F.PONG_MISSING, {}),
    (F.BALANCE_STALE, {}), (F.HTTP_403, {"route": QUERY}),
)  # fmt: skip


async def step(rig: SandboxRig, random: Random, number: int) -> str:
    """Do one thing that a day may bring, and say which."""
    for _ in range(random.choice((0, 1, 1, 2))):
        name, fields = random.choice(FAULTS)
        rig.arm(name, **fields)
    if random.random() < 0.25:
        rig.fault = random.choice(POINTS)
    resting = [one for one in rig.intents if (order := rig.journal.order(f"intent-{one}")) and order.state in OPEN]
    what = random.choice(("want", "want", "want", "hit", "cancel", "kill", "step"))
    if what == "hit" and resting:
        rig.hit(random.choice(resting), random.choice(("0.3", "1")))
    elif what == "cancel" and resting:
        await rig.ask_cancel(random.choice(resting))
    elif what == "kill":
        await rig.restart()
    elif what == "step":
        await rig.step()
    else:
        await rig.want(number, random.choice(KINDS))
        if random.random() < 0.7:
            await rig.until(lambda: rig.journal.order(f"intent-{number}"))
    return what


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("venue", VENUES)
async def test_books_and_venue_agree_after_any_day(venue: str, seed: int, tmp_path: Path) -> None:
    random = Random(f"{venue} {seed}")
    async with sandbox_rig(venue, tmp_path) as rig:
        done = [await step(rig, random, number) for number in range(1, STEPS + 1)]
        rig.fault = None
        await rig.quiet()
        await rig.check()
        assert rig.desk.halt_reason is None, f"{done}: {rig.desk.halt_reason}"
        await rig.want(99, "quote")
        assert await rig.settled(99) == [S.FILLED]
        await rig.quiet()
        await rig.check()
