"""The error tree: one root, a branch for each way of reacting.

CascadeError
├── ConfigError          startup is refused; names the key and the fix
├── InputError           a file or a request from the user is unusable; names the place and the fix
├── DecodeError          bytes that are no message of this schema; counted and dead-lettered
├── UnavailableError     a part outside this process does not answer now; wait, then try again where that is safe
│   ├── BusUnavailableError
│   └── StoreUnavailableError
├── DeferError           this message cannot be handled yet; the bus delivers it again after `delay_s`
├── RejectedError        the other side said a definite no; nothing happened there
├── UnknownOutcomeError  nobody knows whether it happened; only evidence resolves it
└── IntegrityError       two records that must agree do not; the service halts rather than invents

Every other exception is a programmer error: it ends the process, and startup is recovery.
"""


class CascadeError(Exception):
    """Be the root of every error that Cascade raises on purpose."""


class ConfigError(CascadeError):
    """Refuse a configuration; the text names the key, what is wrong and the fix."""


class InputError(CascadeError):
    """Refuse a user's file or request; the text names the place, what is wrong and the fix."""


class DecodeError(CascadeError):
    """Report bytes that are no message of this schema."""


class UnavailableError(CascadeError):
    """Report that a part outside this process does not answer now."""


class BusUnavailableError(UnavailableError):
    """Report that the message bus did not take a message; nothing may be assumed about its delivery."""


class StoreUnavailableError(UnavailableError):
    """Report that the store did not take or give rows."""


class DeferError(CascadeError):
    """Ask the bus to deliver the current message again after `delay_s` seconds."""

    def __init__(self, reason: str, *, delay_s: float = 0.05) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


class RejectedError(CascadeError):
    """Report a definite refusal by a venue: nothing was accepted, nothing rests there."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class UnknownOutcomeError(CascadeError):
    """Report that a request may or may not have taken effect; only evidence resolves it."""


class IntegrityError(CascadeError):
    """Report two records that must agree and do not."""
