"""The account's own stream, over the websocket interface: orders and executions as they happen.

In: a key, a clock. Out: reports, and whether they can be relied on. Never: a report kept back until the next one, a
stream called live before the venue has acknowledged it.

The listen key is gone from Binance: `userDataStream.subscribe.signature` takes its place.
"""

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence

import msgspec

from shared.exchange.binance.codes import CLOCK, KEY_REFUSED
from shared.exchange.binance.frames import ErrorBody
from shared.exchange.binance.orders import ExecutionReport
from shared.exchange.binance.rest import RECV_WINDOW_MS
from shared.exchange.live.config import WireConfig
from shared.exchange.live.socket import LiveSocket

ENDED = frozenset({"eventStreamTerminated", "serverShutdown", "listenKeyExpired"})


class _Kind(msgspec.Struct):
    e: str = ""


class _Envelope(msgspec.Struct):
    id: int | str | None = None
    status: int | None = None
    error: ErrorBody | None = None
    event: msgspec.Raw = msgspec.Raw(b"")
    e: str = ""


_envelope = msgspec.json.Decoder(_Envelope).decode
_kind = msgspec.json.Decoder(_Kind).decode
_report = msgspec.json.Decoder(ExecutionReport, strict=False).decode


class UserWire:
    """Speak on the account's socket; `socket` is set by whoever makes both."""

    def __init__(
        self, config: WireConfig, now_ms: Callable[[], int], on_report: Callable[[ExecutionReport], None],
        on_state: Callable[[bool, str], None],
    ) -> None:  # fmt: skip
        self._config, self._now_ms = config, now_ms
        self._on_report, self._on_state = on_report, on_state
        self.socket: LiveSocket | None = None
        self.is_clock_off = False
        self.refusal: str | None = None
        self._subscribe_id = self._ping_id = 0
        self._next_id = 1
        self._is_subscribed = False

    @property
    def is_settled(self) -> bool:
        """Tell whether the subscription was acknowledged."""
        return self._is_subscribed

    def greet(self) -> Sequence[str]:
        """Subscribe, signed with the time of now."""
        self._is_subscribed, self.refusal = False, None
        params: dict[str, str | int] = {
            "apiKey": self._config.api_key, "recvWindow": RECV_WINDOW_MS, "timestamp": self._now_ms()
        }  # fmt: skip
        params["signature"] = sign(params, self._config.secret)
        self._subscribe_id = self._next_id
        return [self._request("userDataStream.subscribe.signature", params)]

    def ping(self) -> str:
        """Ask for nothing: an answer proves that the socket lives."""
        self._ping_id = self._next_id
        return self._request("ping", None)

    def on_frame(self, frame: bytes | str) -> None:
        """Take a frame. Raises ValueError for one that cannot be read."""
        envelope = _envelope(frame)
        if memoryview(envelope.event):
            self._on_event(envelope.event)
        elif envelope.e:
            self._on_event(frame)
        elif envelope.error is not None:
            self._on_refusal(envelope.error)
        elif envelope.id == self._subscribe_id:
            self._is_subscribed = True
        elif envelope.id == self._ping_id and self.socket is not None:
            self.socket.pong()

    def on_up(self) -> None:
        """Tell that reports come."""
        self._on_state(True, "subscribed")

    def on_down(self, reason: str) -> None:
        """Tell that reports are missing from now on."""
        self._is_subscribed = False
        self._on_state(False, self.refusal or reason)

    def _on_event(self, event: msgspec.Raw | bytes | str) -> None:
        kind = _kind(event).e
        if kind == "executionReport":
            self._on_report(_report(event))
        elif kind in ENDED:
            self._fail(f"the venue ends the stream: {kind}")

    def _on_refusal(self, error: ErrorBody) -> None:
        self.is_clock_off = error.code == CLOCK
        text = f"{error.code} {error.msg[:100]}"
        if error.code in KEY_REFUSED:
            self.refusal = text
        self._fail(f"the account's stream was refused: {text}")

    def _fail(self, reason: str) -> None:
        if self.socket is not None:
            self.socket.fail(reason)

    def _request(self, method: str, params: Mapping[str, str | int] | None) -> str:
        request: dict[str, object] = {"id": self._next_id, "method": method}
        if params is not None:
            request["params"] = params
        self._next_id += 1
        return msgspec.json.encode(request).decode()


def sign(params: Mapping[str, str | int], secret: str) -> str:
    """Return the signature of a websocket request: over its parameters as they are, sorted by name."""
    text = "&".join(f"{name}={params[name]}" for name in sorted(params))
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
