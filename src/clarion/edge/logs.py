"""Logging: one JSON object per line for machines, a short line for people at a terminal.

Call sites give an event in words that never change and keyword fields: `log.info("session up",
peer="192.0.2.1")`. Variable text belongs in fields, so that lines can be counted and searched.
"""

import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TextIO, cast

import msgspec

from clarion.base.errors import InvalidInputError

_ROOT: Final = "clarion"


class LogLevel(StrEnum):
    """The levels of the `--log-level` flag, least to most silent."""

    ALL = "all"
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"
    NONE = "none"


_LEVELS: Final = {
    LogLevel.ALL: logging.NOTSET + 1,
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARN: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
    LogLevel.NONE: logging.CRITICAL + 1,
}
_NAMES: Final = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "error",
}


class Log:
    """A logger for one component; bound fields stand on each of its lines."""

    def __init__(self, component: str, **bound: object) -> None:
        self._component = component
        self._bound = bound
        self._logger = logging.getLogger(f"{_ROOT}.{component}")

    def bind(self, **fields: object) -> "Log":
        """The same logger with more fixed fields."""
        return Log(self._component, **{**self._bound, **fields})

    def debug(self, event: str, **fields: object) -> None:
        """What only a developer asks for."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What an operator may want to know."""
        self._write(logging.INFO, event, fields)

    def warn(self, event: str, **fields: object) -> None:
        """What an operator should look at."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, trace: BaseException | None = None, **fields: object) -> None:
        """What an operator must look at; `trace` adds where an exception came from."""
        self._write(logging.ERROR, event, fields, trace)

    def _write(
        self,
        level: int,
        event: str,
        fields: dict[str, object],
        trace: BaseException | None = None,
    ) -> None:
        if self._logger.isEnabledFor(level):
            extra = {"component": self._component, "fields": {**self._bound, **fields}}
            self._logger.log(level, "%s", event, extra=extra, exc_info=trace, stacklevel=3)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    found = getattr(record, "fields", None)
    fields: dict[str, object] = dict(found) if isinstance(found, dict) else {}
    if record.exc_info and record.exc_info[1] is not None:
        fields["trace"] = logging.Formatter().formatException(record.exc_info)
    return fields


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `level ts caller component msg`, then the event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        line: dict[str, object] = {
            "level": _NAMES.get(record.levelno, record.levelname.lower()),
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "caller": f"{record.filename}:{record.lineno}",
            "component": getattr(record, "component", record.name),
            "msg": record.getMessage(),
        }
        for name, value in _fields(record).items():
            line.setdefault(name, _readable(value))
        return msgspec.json.encode(line).decode()


def _readable(value: object) -> object:
    """A field as JSON: plain values as they are, an address or a key as its text."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, dict):
        return {str(name): _readable(item) for name, item in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return [_readable(item) for item in cast("Iterable[object]", value)]
    return str(value)


class TextFormatter(logging.Formatter):
    """One short line for people: time, level, component, event, fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        fields = _fields(record)
        trace = fields.pop("trace", "")
        when = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        level = _NAMES.get(record.levelno, record.levelname.lower())
        component = getattr(record, "component", record.name)
        words = [f"{when} {level:<5} {component}: {record.getMessage()}"]
        words += [f"{name}={_plain(value)}" for name, value in fields.items()]
        return " ".join(words) + (f"\n{trace}" if trace else "")


def _plain(value: object) -> str:
    text = str(value)
    return repr(text) if not text or " " in text or "\n" in text else text


def parse_level(text: str) -> LogLevel:
    """The level of this name.

    Raises:
        InvalidInputError: there is no such level.
    """
    try:
        return LogLevel(text.lower())
    except ValueError:
        names = ", ".join(LogLevel)
        raise InvalidInputError(f"{text!r} is not a log level; it is one of {names}") from None


def setup_logging(
    level: LogLevel = LogLevel.INFO, *, json: bool | None = None, stream: TextIO | None = None
) -> None:
    """Send the program's log lines to a stream (standard error by default).

    Args:
        level: The least level that is written.
        json: JSON or text; by default text when the stream is a terminal.
        stream: Where to.
    """
    stream = stream or sys.stderr
    as_json = json if json is not None else not stream.isatty()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if as_json else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR if level is LogLevel.NONE else logging.WARNING)
    ours = logging.getLogger(_ROOT)
    ours.setLevel(_LEVELS[level])
    if level is LogLevel.NONE:
        root.handlers[:] = [logging.NullHandler()]
