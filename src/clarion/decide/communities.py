"""BGP communities as users write them: `a:b`, `large:a:b:c`, or a well-known name."""

from clarion.base.errors import InvalidInputError, quoted

LargeCommunity = tuple[int, int, int]

WELL_KNOWN: dict[str, int] = {
    "graceful-shutdown": 0xFFFF0000,  # RFC 8326
    "accept-own": 0xFFFF0001,  # RFC 7611
    "llgr-stale": 0xFFFF0006,  # RFC 9494
    "no-llgr": 0xFFFF0007,  # RFC 9494
    "blackhole": 0xFFFF029A,  # RFC 7999
    "no-export": 0xFFFFFF01,  # RFC 1997
    "no-advertise": 0xFFFFFF02,  # RFC 1997
    "no-export-subconfed": 0xFFFFFF03,  # RFC 1997
    "local-as": 0xFFFFFF03,  # the name that routers give no-export-subconfed
    "no-peer": 0xFFFFFF04,  # RFC 3765
}
"""Names that need no Community object; `NO_EXPORT` and `no-export` are the same."""


def well_known(name: str) -> int | None:
    """The value of a well-known name, None if it is not one."""
    return WELL_KNOWN.get(name.lower().replace("_", "-"))


def parse_community(text: str) -> int | LargeCommunity:
    """Read `a:b` (16 bits each, RFC 1997) or `large:a:b:c` (32 bits each, RFC 8092).

    Raises:
        InvalidInputError: neither form, or a part out of range.
    """
    parts = text.split(":")
    if len(parts) == 2:
        high, low = (_number(part, 16, text) for part in parts)
        return high << 16 | low
    if len(parts) == 4 and parts[0] == "large":
        first, second, third = (_number(part, 32, text) for part in parts[1:])
        return first, second, third
    raise InvalidInputError(f"{quoted(text)} is neither a:b nor large:a:b:c")


_DIGITS = 20
"""More are no number of a community; Python itself refuses to read thousands of them."""


def _number(part: str, bits: int, text: str) -> int:
    # int() would also take signs, spaces, underscores and digits of other scripts.
    digits = part.isascii() and part.isdigit() and len(part) <= _DIGITS
    if not digits or int(part) >> bits:
        raise InvalidInputError(f"{quoted(part)} in {quoted(text)} is not a number of {bits} bits")
    return int(part)


def format_community(value: int | LargeCommunity) -> str:
    """The community as routers print it: `65535:65281` or `1:2:3`."""
    if isinstance(value, int):
        return f"{value >> 16}:{value & 0xFFFF}"
    return ":".join(map(str, value))
