"""Two sessions back to back for the tests of the session machine, and what they said."""

from typing import Any

import msgspec

from clarion.base.addr import Address, parse_address, parse_prefix
from clarion.proto.bgp.config import PeerConfig
from clarion.proto.bgp.iana import MessageType
from clarion.proto.bgp.notify import Notification, decode_notification
from clarion.proto.bgp.routes import Route
from clarion.proto.bgp.update import Update, decode_update
from clarion.testing.bgplink import BgpLink

LEFT, RIGHT = parse_address("192.0.2.1"), parse_address("192.0.2.2")
LEFT6, RIGHT6 = parse_address("2001:db8::1"), parse_address("2001:db8::2")


def peer(name: str, address: Address, mine: int = 64512, theirs: int = 64513) -> PeerConfig:
    return PeerConfig(
        name=name, local_asn=mine, peer_asn=theirs, peer_address=address, hold_time=9.0
    )


def link(left: dict[str, Any] | None = None, right: dict[str, Any] | None = None) -> BgpLink:
    """Left (AS 64512, opens) and right (AS 64513, passive), with fields changed."""
    a = msgspec.structs.replace(peer("right", RIGHT), **(left or {}))
    b = msgspec.structs.replace(
        peer("left", LEFT, 64513, 64512), **({"passive": True} | (right or {}))
    )
    return BgpLink(a, b)


def routes(*texts: str, **fields: Any) -> list[Route]:
    return [Route(parse_prefix(text), **fields) for text in texts]


def updates(joined: BgpLink, sender: str, *, internal: bool = False) -> list[Update]:
    return [
        decode_update(body, four_octet_asn=True, internal=internal)
        for body in joined.messages(sender, MessageType.UPDATE)
    ]


def last_notification(joined: BgpLink, sender: str) -> Notification:
    return decode_notification(joined.messages(sender, MessageType.NOTIFICATION)[-1])
