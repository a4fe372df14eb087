"""Prefixes as NLRI: an octet of length, then as few as hold it (RFC 4271 §4.3, RFC 4760 §5)."""

from collections.abc import Iterable

from clarion.base.addr import BITS, Address, Prefix, covering_prefix
from clarion.base.errors import DecodeError
from clarion.proto.bgp.iana import ErrorCode, UpdateError


def encode_prefix(prefix: Prefix) -> bytes:
    """One NLRI entry."""
    length = prefix.length
    octets = (length + 7) >> 3
    shift = BITS[prefix.version] - 8 * octets
    # One integer conversion is the cheapest way to write length and address together.
    return (length << 8 * octets | prefix.value >> shift).to_bytes(octets + 1, "big")


def encode_prefixes(prefixes: tuple[Prefix, ...]) -> bytes:
    """Entries one after another."""
    return b"".join(map(encode_prefix, prefixes))


def pack_prefixes(prefixes: Iterable[Prefix], room: int) -> tuple[bytes, list[Prefix], bool]:
    """As many entries as fit into `room` octets, which is at least one.

    Returns:
        The entries, their prefixes, and whether they left something out for lack of room.
    """
    entries: list[bytes] = []
    taken: list[Prefix] = []
    for prefix in prefixes:
        entry = encode_prefix(prefix)
        room -= len(entry)
        if room < 0:
            assert taken
            return b"".join(entries), taken, True
        entries.append(entry)
        taken.append(prefix)
    return b"".join(entries), taken, False


def decode_prefixes(data: bytes, version: int) -> tuple[Prefix, ...]:
    """Read entries to the end of `data`. Bits beyond the length are ignored (RFC 4271 §4.3).

    Raises:
        DecodeError: a length beyond the family's, or an entry cut short (Invalid Network Field).
    """
    bits = BITS[version]
    found: list[Prefix] = []
    position, end = 0, len(data)
    while position < end:
        length = data[position]
        start, position = position + 1, position + 1 + ((length + 7) >> 3)
        if length > bits or position > end:  # RFC 4271 §6.3: Invalid Network Field
            raise DecodeError(
                f"an IPv{version} prefix of length {length} in {end - start} octets",
                ErrorCode.UPDATE_MESSAGE,
                UpdateError.INVALID_NETWORK_FIELD,
            )
        value = int.from_bytes(data[start:position], "big") << bits - 8 * (position - start)
        found.append(covering_prefix(Address(version, value), length))
    return tuple(found)
