"""Structured logs on stderr: one line per event, a constant phrase and its facts as fields."""

import sys
from typing import Final

import structlog

from sampan.errors import InvalidArgumentError

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(service: str, level: str, format: str) -> structlog.stdlib.BoundLogger:
    """Set up the process's logging; called once, by the harness.

    Raises:
        InvalidArgumentError: an unknown level or format.
    """
    if level not in _LEVELS:
        raise InvalidArgumentError(f"log level {level!r}: expected one of {', '.join(_LEVELS)}")
    renderers = {"json": structlog.processors.JSONRenderer, "text": structlog.dev.ConsoleRenderer}
    if format not in renderers:
        raise InvalidArgumentError(f"log format {format!r}: expected one of {', '.join(renderers)}")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderers[format](),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(service=service)
    return logger
