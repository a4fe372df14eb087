"""UPDATE messages (RFC 4271 §4.3), read with the graded error handling of RFC 7606."""

from typing import Final

import msgspec

from clarion.base.addr import Prefix
from clarion.base.errors import DecodeError
from clarion.base.limits import BGP_EXTENDED_MESSAGE_BYTES
from clarion.proto.bgp.attrs import (
    Fault,
    MpUnreach,
    PathAttributes,
    Severity,
    decode_attributes,
    encode_attributes,
)
from clarion.proto.bgp.iana import (
    IPV4_UNICAST,
    AttributeCode,
    ErrorCode,
    Family,
    MessageType,
    UpdateError,
)
from clarion.proto.bgp.nlri import decode_prefixes, encode_prefixes
from clarion.proto.bgp.wire import HEADER_BYTES, encode_frame

_EMPTY: Final = PathAttributes()


class Update(msgspec.Struct, frozen=True):
    """One UPDATE: IPv4 withdrawn, attributes (with the MP routes inside), IPv4 announced.

    `faults` are those of a received message; when one is TREAT_AS_WITHDRAW, what the message
    announces counts as withdrawn (`announced` and `withdrawn_all` follow that).
    """

    withdrawn: tuple[Prefix, ...] = ()
    attributes: PathAttributes = PathAttributes()
    nlri: tuple[Prefix, ...] = ()
    faults: tuple[Fault, ...] = ()

    @property
    def treat_as_withdraw(self) -> bool:
        """True when a fault turns announcements into withdrawals (RFC 7606 §2)."""
        return any(fault.severity is Severity.TREAT_AS_WITHDRAW for fault in self.faults)

    @property
    def reachable(self) -> tuple[Prefix, ...]:
        """What the message says it announces, of both families."""
        reach = self.attributes.mp_reach
        return self.nlri + (reach.prefixes if reach else ())

    @property
    def announced(self) -> tuple[Prefix, ...]:
        """What counts as announced."""
        return () if self.treat_as_withdraw else self.reachable

    @property
    def withdrawn_all(self) -> tuple[Prefix, ...]:
        """What counts as withdrawn, of both families."""
        unreach = self.attributes.mp_unreach
        gone = self.withdrawn + (unreach.prefixes if unreach else ())
        return gone + self.reachable if self.treat_as_withdraw else gone

    @property
    def end_of_rib(self) -> Family | None:
        """The family whose initial transfer this message ends, if it is such a marker."""
        if self.withdrawn or self.nlri or self.faults:
            return None
        if self.attributes == _EMPTY:  # RFC 4724 §2
            return IPV4_UNICAST
        unreach = self.attributes.mp_unreach
        if (
            unreach
            and not unreach.prefixes
            and self.attributes == PathAttributes(mp_unreach=unreach)
        ):
            return unreach.family
        return None


def end_of_rib(family: Family) -> bytes:
    """The End-of-RIB marker of a family (RFC 4724 §2)."""
    if family == IPV4_UNICAST:
        return encode_update(Update(), four_octet_asn=True)
    marker = PathAttributes(mp_unreach=MpUnreach(family))
    return encode_update(Update(attributes=marker), four_octet_asn=True)


def encode_update(update: Update, *, four_octet_asn: bool) -> bytes:
    """The whole UPDATE. The caller keeps it within the message size."""
    return assemble_update(
        encode_prefixes(update.withdrawn),
        encode_attributes(update.attributes, four_octet_asn=four_octet_asn),
        encode_prefixes(update.nlri),
    )


def assemble_update(withdrawn: bytes, attributes: bytes, nlri: bytes) -> bytes:
    """An UPDATE from fields that are already encoded."""
    body = b"".join(
        (
            len(withdrawn).to_bytes(2, "big"),
            withdrawn,
            len(attributes).to_bytes(2, "big"),
            attributes,
            nlri,
        )
    )
    assert HEADER_BYTES + len(body) <= BGP_EXTENDED_MESSAGE_BYTES
    return encode_frame(MessageType.UPDATE, body)


def decode_update(body: bytes, *, four_octet_asn: bool, internal: bool) -> Update:
    """Read the body of an UPDATE.

    Raises:
        DecodeError: only what RFC 7606 leaves as a session reset: lengths that contradict each
            other, prefixes that cannot be read, faults of the MP attributes, and faults in a
            message whose routes cannot be told.
    """
    if len(body) < 4:
        raise _malformed("an UPDATE shorter than its two length fields")
    attributes_at = 2 + int.from_bytes(body[:2], "big")
    if attributes_at + 2 > len(body):  # RFC 7606 §3 a, RFC 4271 §6.3
        raise _malformed("the withdrawn routes overrun the message")
    nlri_at = attributes_at + 2 + int.from_bytes(body[attributes_at : attributes_at + 2], "big")
    if nlri_at > len(body):  # RFC 7606 §3 b
        raise _malformed("the path attributes overrun the message")
    withdrawn = decode_prefixes(body[2:attributes_at], 4)
    nlri = decode_prefixes(body[nlri_at:], 4)
    attributes, faults = decode_attributes(
        body[attributes_at + 2 : nlri_at], four_octet_asn=four_octet_asn, internal=internal
    )
    if attributes.mp_reach and not nlri:  # RFC 4760 §3: then NEXT_HOP is ignored
        faults = tuple(fault for fault in faults if fault.attribute != AttributeCode.NEXT_HOP)
    faults += _missing(attributes, faults, bool(nlri))
    update = Update(withdrawn, attributes, nlri, faults)
    if update.treat_as_withdraw and not update.reachable:
        _refuse_hidden(update)
    return update


def _refuse_hidden(update: Update) -> None:
    """An UPDATE with a grave fault names no route: the fault may hide some (RFC 7606 §5.2)."""
    if any(raw.code == AttributeCode.MP_REACH_NLRI for raw in update.attributes.unknown):
        return  # it names routes, of a family that is not read here
    worst = next(f for f in update.faults if f.severity is Severity.TREAT_AS_WITHDRAW)
    if worst.attribute == AttributeCode.MP_UNREACH_NLRI and update.attributes == PathAttributes(
        mp_unreach=update.attributes.mp_unreach
    ):
        return  # RFC 7606 §5.2: there is nothing beside it
    message = f"{worst.message}, and no route that it concerns"
    raise DecodeError(message, ErrorCode.UPDATE_MESSAGE, worst.subcode, worst.data)


def _missing(
    attributes: PathAttributes, faults: tuple[Fault, ...], classic: bool
) -> tuple[Fault, ...]:
    """Mandatory attributes that are absent (RFC 4271 §5, RFC 7606 §3 d), faulty ones aside."""
    if not classic and not (attributes.mp_reach and attributes.mp_reach.prefixes):
        return ()
    wanted: dict[AttributeCode, object] = {
        AttributeCode.ORIGIN: attributes.origin,
        AttributeCode.AS_PATH: attributes.as_path,
    }
    if classic:
        wanted[AttributeCode.NEXT_HOP] = attributes.next_hop
    blamed = {fault.attribute for fault in faults}
    return tuple(
        Fault(Severity.TREAT_AS_WITHDRAW, code, f"{code.name} is missing")
        for code, value in wanted.items()
        if value is None and code not in blamed
    )


def _malformed(message: str) -> DecodeError:
    return DecodeError(message, ErrorCode.UPDATE_MESSAGE, UpdateError.MALFORMED_ATTRIBUTE_LIST)
