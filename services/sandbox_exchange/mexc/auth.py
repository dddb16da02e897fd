"""Who asks, and whether it is he: API key, signature over the raw query, time window, permissions.

In: an API key, the query as it was sent, the venue's time. Out: the account, or MEXC's refusal.
Never: an account for a signature that does not fit, or for a request outside its time window.
"""

import hashlib
import hmac
from collections.abc import Mapping

from services.sandbox_exchange.core.model import Account, Permission
from services.sandbox_exchange.mexc.errors import ApiError, missing
from services.sandbox_exchange.mexc.params import Params
from services.sandbox_exchange.mexc.words import milliseconds

SIGNATURE = "&signature="
RECV_WINDOW_MS = 5_000
RECV_WINDOW_MS_MAX = 60_000
AHEAD_MS_MAX = 1_000
LACKING = {
    Permission.READ: (703, "Trading information read access is required"),
    Permission.TRADE: (704, "Please enable API Key trading information write access"),
    Permission.WITHDRAW: (700007, "No permission to access the endpoint."),
}


def key_owner(accounts: Mapping[str, Account], api_key: str | None, ip: str, now_ns: int) -> Account:
    """Return the account of an API key: 10072 for an unknown one, 402 for an expired one, 700006 from elsewhere."""
    if not api_key:
        raise ApiError(700001, "API-key format invalid.")
    account = accounts.get(api_key)
    if account is None:
        raise ApiError(10072, "Api key info invalid")
    if account.expires_ns is not None and now_ns >= account.expires_ns:
        raise ApiError(402, "API Key expired, please apply again")
    if account.allowed_ips is not None and ip not in account.allowed_ips:
        raise ApiError(700006, f"IP [{ip}] not in the ip white list")
    return account


def require(account: Account, permission: Permission) -> None:
    """Refuse an account whose key may not do that."""
    if permission not in account.permissions:
        code, message = LACKING[permission]
        raise ApiError(code, message)


def check_signature(secret: str, raw_query: str) -> None:
    """Refuse a query that does not end with the HMAC-SHA256 of everything before it, byte for byte as it was sent."""
    signed, mark, signature = raw_query.rpartition(SIGNATURE)
    if not mark or not signature:
        raise missing("signature")
    expected = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise ApiError(700002, "Signature for this request is not valid.")


def check_time(params: Params, now_ns: int) -> None:
    """Refuse a request from outside its time window, or with a window that is too long."""
    timestamp = params.whole_or_none("timestamp")
    if timestamp is None:
        raise missing("timestamp")
    window = params.whole_or_none("recvWindow")
    window_ms = RECV_WINDOW_MS if window is None else window
    if window_ms > RECV_WINDOW_MS_MAX:
        raise ApiError(700005, "recvWindow must less than 60000")
    now_ms = milliseconds(now_ns)
    if not (timestamp < now_ms + AHEAD_MS_MAX and now_ms - timestamp <= window_ms):
        raise ApiError(700003, "Timestamp for this request is outside of the recvWindow.")
