"""Rows that follow a venue, as its state file's do, without a file."""

from services.sandbox_exchange.core.changes import Changes, Key, Row, state_of
from services.sandbox_exchange.core.state import encode_state


class Mirror:
    """Hold the rows that a venue's changes add up to."""

    def __init__(self) -> None:
        self.rows: dict[Key, bytes] = {}

    def follow(self, changes: Changes) -> None:
        """Take changes in."""
        if changes.is_whole:
            self.rows.clear()
        for section, name, number, value in changes.puts:
            self.rows[section, name, number] = value
        for key in changes.drops:
            self.rows.pop(key, None)
        for section, name, least in changes.drops_below:
            for key in [one for one in self.rows if one[:2] == (section, name) and one[2] < least]:
                del self.rows[key]

    def sorted(self) -> list[Row]:
        """Return the rows as a file gives them back."""
        return [(*key, self.rows[key]) for key in sorted(self.rows)]

    def dump(self) -> bytes:
        """Return what the rows say, as the venue's own dump would."""
        return encode_state(state_of(self.sorted()))
