"""When absence is proof: the rule that lets an UNKNOWN order be called never accepted.

In: each time a venue said "there is no such order", and when. Out: whether that is enough. Never: one answer taken
for proof, a failed question counted as an answer.
"""

import msgspec

from shared.clock import NANOSECONDS_PER_SECOND


class Misses(msgspec.Struct, frozen=True):
    """Count how often a venue did not know an order, from `first_ns` to `last_ns` on a clock that nobody sets."""

    count: int = 0
    first_ns: int = 0
    last_ns: int = 0

    def after(self, now_ns: int) -> "Misses":
        """Return the count after one more."""
        return Misses(self.count + 1, self.first_ns if self.count else now_ns, now_ns)

    def are_enough(self, count_min: int, span_s: float) -> bool:
        """Tell whether they are many and lie far enough apart; the caller has looked through orders and trades too."""
        return self.count >= count_min and self.last_ns - self.first_ns >= int(span_s * NANOSECONDS_PER_SECOND)
