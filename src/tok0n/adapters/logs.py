"""Structured logs on standard error: readable on a terminal, one JSON document a line otherwise."""

import contextlib
import logging
import sys
from collections.abc import Sequence
from typing import TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from tok0n.ports.log_lines import CountLine, RequestLine, WriteLines


class _Lines:
    """Writes single lines to standard error. Ignores errors, such as a closed pipe or a full disk."""

    def write(self, text: str) -> None:
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(text)

    def flush(self) -> None:
        if sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()


def configure(*, level: str, style: str) -> WriteLines:
    """Configure structlog, and the standard library's logging to use it.

    `style` is "console", "json" or "auto", which means console on a terminal. Returns a function that writes several
    request log lines at once.
    """
    single_lines = _Lines()
    console = style == "console" or (style == "auto" and _is_a_terminal())
    render = (
        structlog.dev.ConsoleRenderer(pad_event_to=20, exception_formatter=structlog.dev.plain_traceback)
        if console
        else _render_json
    )
    levels = logging.getLevelNamesMapping()
    threshold = levels[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    exceptions: list[structlog.typing.Processor] = [] if console else [structlog.processors.format_exc_info]
    structlog.configure(
        processors=[*shared, *exceptions, render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, single_lines)),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(single_lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, *exceptions],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(threshold, logging.WARNING), force=True)

    enabled_levels = {name.lower() for name, value in levels.items() if value >= threshold}

    def write(lines: Sequence[RequestLine | CountLine]) -> None:
        enabled = [line for line in lines if line.level in enabled_levels]
        if console:
            texts = [render(None, "", msgspec.to_builtins(line)) for line in enabled]
        else:
            texts = [_encode(line).decode() for line in enabled]
        if texts and sys.stderr is not None:
            sys.stderr.write("\n".join(texts) + "\n")
            sys.stderr.flush()

    return write


def _is_a_terminal() -> bool:
    with contextlib.suppress(ValueError):  # Standard error is closed.
        return sys.stderr is not None and sys.stderr.isatty()
    return False


_encode = msgspec.json.Encoder(enc_hook=repr).encode


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return _encode(event).decode()
