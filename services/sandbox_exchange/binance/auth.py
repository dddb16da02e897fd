"""Who asks, and whether it is he: API key, signature, time window, permissions.

In: an API key, the signed text and its signature, the venue's time. Out: the account, or Binance's refusal.
Never: an account for a signature that does not fit, or for a request outside its time window.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping

from services.sandbox_exchange.binance.errors import ApiError, missing
from services.sandbox_exchange.binance.params import Params
from services.sandbox_exchange.binance.words import milliseconds
from services.sandbox_exchange.core.model import Account, Permission

API_KEY = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
RECV_WINDOW_MS = 5_000
RECV_WINDOW_MS_MAX = 60_000
AHEAD_MS_MAX = 1_000


def key_owner(accounts: Mapping[str, Account], api_key: str | None, ip: str, now_ns: int) -> Account:
    """Return the account of an API key. -2014 for none, -2015 for one that is unknown, expired or from elsewhere."""
    if api_key is None or not API_KEY.fullmatch(api_key):
        raise ApiError(-2014, "API-key format invalid.", status=401)
    account = accounts.get(api_key)
    if (
        account is None
        or (account.allowed_ips is not None and ip not in account.allowed_ips)
        or (account.expires_ns is not None and now_ns >= account.expires_ns)
    ):
        raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", status=401)
    return account


def require(account: Account, permission: Permission) -> None:
    """Refuse an account whose key may not do that."""
    if permission not in account.permissions:
        raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", status=401)


def check_time(params: Params, now_ns: int) -> None:
    """Refuse a request from outside its time window (-1021) or without a time (-1102)."""
    timestamp = params.whole_or_none("timestamp")
    if timestamp is None:
        raise missing("timestamp")
    window = params.amount_or_none("recvWindow")
    window_ms = RECV_WINDOW_MS if window is None else window
    if window_ms > RECV_WINDOW_MS_MAX:
        raise ApiError(-1131, "recvWindow must be less than 60000.")
    now_ms = milliseconds(now_ns)
    if timestamp >= now_ms + AHEAD_MS_MAX:
        raise ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    if now_ms - timestamp > window_ms:
        raise ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")


def check_signature(secret: str, signed: str, signature: str) -> None:
    """Refuse a signature that is not the HMAC-SHA256 of the signed text; its case does not matter."""
    expected = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.lower().encode()):
        raise ApiError(-1022, "Signature for this request is not valid.")


def split_signature(query: str, body: str) -> tuple[str, str]:
    """Return the signed text of an HTTP request, raw as it was sent, and the signature; -1102 without one."""
    signature: str | None = None
    parts: list[str] = []
    for source in (query, body):
        kept: list[str] = []
        for pair in source.split("&") if source else []:
            if pair.startswith("signature="):
                signature = pair.removeprefix("signature=")
            else:
                kept.append(pair)
        parts.append("&".join(kept))
    if not signature:
        raise missing("signature")
    return "".join(parts), signature
