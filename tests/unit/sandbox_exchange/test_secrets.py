"""What is printed by accident, in a traceback or a log, shows no secret of an account."""

from services.sandbox_exchange.app import Announcement
from services.sandbox_exchange.core.changes import Changes
from services.sandbox_exchange.core.exchange import SandboxExchange
from services.sandbox_exchange.core.model import Account
from services.sandbox_exchange.keys import new_key
from services.sandbox_exchange.state import SavedState


def test_no_repr_shows_a_key_or_its_secret() -> None:
    key = new_key()
    account = Account("ann", key.api_key, key.secret)
    exchange = SandboxExchange()
    exchange.open_account(account, {}, 0)
    changes = exchange.take_changes()
    assert any(key.secret.encode() in value for _, _, _, value in changes.puts)
    told = Announcement("mexc", "http://x", "ws://x", None, "http://y", key.api_key, key.secret, ("HUSDT",))
    saved = SavedState(1, "mexc", key.api_key, exchange.dump(), b"", 0)
    for one in (key, account, told, saved, changes, Changes(False, changes.puts, [], [])):
        for text in (repr(one), str(one), f"{[one]}"):
            assert key.secret not in text
            assert key.api_key not in text
