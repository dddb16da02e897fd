"""Logs: one JSON object a line on standard error, one event name a line, never a secret."""

import logging
import re
import sys

import structlog

Log = structlog.stdlib.BoundLogger

# nkey seeds and anything whose name says that it is a secret.
_SECRET_KEY = re.compile(r"secret|password|passphrase|seed|api_key|token", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\bS[UANCO][A-Z2-7]{40,}\b")


def configure_logs(service: str, instance: str, *, level: str = "INFO") -> Log:
    """Set up JSON logging for this process and return the service's logger."""
    logging.basicConfig(stream=sys.stderr, level=level, format="%(message)s", force=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    log: Log = structlog.get_logger(service).bind(service=service, instance=instance)
    return log


def redact(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Replace secrets in a log line, by key and by shape."""
    for key, value in event.items():
        if _SECRET_KEY.search(key):
            event[key] = "***"
        elif isinstance(value, str):
            event[key] = _SECRET_VALUE.sub("***", value)
    return event
