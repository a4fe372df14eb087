"""Durations as people and Kubernetes write them: `500ms`, `3s`, `2m`, `1h30m`, `1.5s`."""

import re

from clarion.base.errors import InvalidInputError, quoted

_UNIT_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_NANOSECONDS_END = 1 << 63
"""Durations of Kubernetes are nanoseconds in a signed integer of 64 bits."""

_TERM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)


def parse_duration(text: str) -> float:
    """Seconds in a duration such as `1m30s`; `0` needs no unit.

    Raises:
        InvalidInputError: not a sequence of number and unit, or too long; the message shows the
            form wanted.
    """
    rest = text.strip()
    sign = -1 if rest.startswith("-") else 1
    rest = rest[1:] if rest.startswith(("-", "+")) else rest
    if rest == "0":
        return 0.0
    total, position = 0.0, 0
    for match in _TERM.finditer(rest):
        if match.start() != position:
            break
        total += float(match[1]) * _UNIT_NANOSECONDS[match[2]]
        position = match.end()
    if not rest or position != len(rest):
        raise InvalidInputError(
            f"{quoted(text)} is not a duration; write for example 500ms, 3s or 1m30s"
        )
    if total >= _NANOSECONDS_END:
        raise InvalidInputError(
            f"{quoted(text)} is longer than a duration can be, which is 292 years"
        )
    return sign * total / 1e9


def format_duration(seconds: float) -> str:
    """The duration as Kubernetes writes it: `500ms`, `3s`, `1m30s`, `1h0m0s`."""
    nanoseconds = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 else ""
    if nanoseconds == 0:
        return "0s"
    for unit in ("ns", "us", "ms"):
        if nanoseconds < _UNIT_NANOSECONDS[unit] * 1000:
            return f"{sign}{_trim(nanoseconds / _UNIT_NANOSECONDS[unit])}{unit}"
    minutes, rest = divmod(nanoseconds, _UNIT_NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_trim(rest / 1e9)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _trim(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")
