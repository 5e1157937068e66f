"""Structured logs on stderr: one line per event, a constant phrase and its facts as fields.

``from sampan.log import log`` and ``log.info("layer applied", digest=digest)``. What is bound in an interceptor (the
request's id, the method) is in every line that the request causes.
"""

import sys
from typing import Final

# structlog imports rich wherever it finds it, for tracebacks that a daemon never draws: 5 MB in each process.
_had_rich = "rich" in sys.modules
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # None is how an import is told to fail

import structlog  # noqa: E402
from structlog.typing import EventDict, Processor  # noqa: E402

if not _had_rich:
    del sys.modules["rich"]

from sampan.errors import InvalidArgumentError  # noqa: E402

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(service: str, level: str, format: str) -> None:
    """Set up the process's logging; called once, by the harness.

    Raises:
        InvalidArgumentError: an unknown level or format.
    """
    if level not in _LEVELS:
        raise InvalidArgumentError(f"log level {level!r}: expected one of {', '.join(_LEVELS)}")
    renderers = {"json": structlog.processors.JSONRenderer, "text": _text}
    if format not in renderers:
        raise InvalidArgumentError(f"log format {format!r}: expected one of {', '.join(renderers)}")
    structlog.configure(
        processors=[
            _named(service),
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


def _text() -> Processor:
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


def _named(service: str) -> Processor:
    """Return a processor that says in every line which service speaks."""

    def add(_logger: object, _method: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return add
