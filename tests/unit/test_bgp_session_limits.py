"""What a peer may send and what a session tells of it: limits, refreshes, history."""

import msgspec
import pytest

from clarion.base.limits import (
    BGP_CHUNK_BYTES,
    BGP_EXTENDED_MESSAGE_BYTES,
    BGP_PREFIX_REST_SECONDS,
)
from clarion.proto.bgp.config import Direction, InboundStatus, State
from clarion.proto.bgp.iana import (
    IPV4_UNICAST,
    IPV6_UNICAST,
    Cease,
    ErrorCode,
    MessageType,
    RefreshSubtype,
)
from clarion.proto.bgp.notify import Notification, cease
from clarion.proto.bgp.open import decode_open
from clarion.proto.bgp.wire import RouteRefresh, encode_frame, encode_route_refresh
from clarion.testing.bgplink import BgpLink

from .bgp_kit import LEFT6, RIGHT6, last_notification, link, routes


def hosts(count: int, version: int = 4) -> list[str]:
    pattern = "198.51.100.{}/32" if version == 4 else "2001:db8:ff::{}/128"
    return [pattern.format(number) for number in range(count)]


def both_families(limit: int, *, passive: bool = False) -> BgpLink:
    joined = link({"max_prefixes": limit, "passive": passive}, {"passive": not passive})
    joined.extra = {"left": {"next_hop_ipv6": LEFT6}, "right": {"next_hop_ipv6": RIGHT6}}
    return joined


# -- inbound prefixes ------------------------------------------------------------------------------


def test_the_limit_is_one_for_each_family() -> None:
    joined = both_families(4)
    joined.right.set_routes(routes(*hosts(4), *hosts(2, 6)))
    joined.start()
    assert joined.left.state is State.ESTABLISHED
    assert joined.left.status().inbound == (
        InboundStatus(IPV4_UNICAST, 4, limit=4, warning=True, complete=True),
        InboundStatus(IPV6_UNICAST, 2, limit=4, warning=False, complete=True),
    )
    assert joined.left.status().prefixes_received == 6


def test_one_prefix_too_many_ends_the_session_and_says_which_family_and_bound() -> None:
    joined = both_families(4)
    joined.right.set_routes(routes(*hosts(4), *hosts(4, 6)))
    joined.start()
    joined.right.set_routes(routes(*hosts(4), *hosts(5, 6)))
    joined.settle()
    said = last_notification(joined, "left")
    assert (said.code, said.subcode) == (ErrorCode.CEASE, 1)
    assert said.data == bytes.fromhex("0002 01 00000004")  # RFC 4271 §6.7, RFC 4486 §4
    assert joined.left.status().last_error == "the peer announces more than 4 ipv6-unicast prefixes"
    words = "Cease/Maximum Number Of Prefixes Reached: ipv6-unicast, 4 allowed"
    assert joined.right.status().last_notification_received == words


@pytest.mark.parametrize("passive", [False, True])
def test_a_peer_that_announced_too_much_is_left_alone_for_a_while(passive: bool) -> None:
    joined = both_families(4, passive=passive)
    joined.right.set_routes(routes(*hosts(5)))
    joined.start()
    assert joined.left.status().established_count == 1
    assert str(joined.left.state) == "Idle"
    assert joined.left.admit(joined.now) == cease(Cease.CONNECTION_REJECTED)
    joined.advance(BGP_PREFIX_REST_SECONDS - 1)
    assert joined.left.status().established_count == 1
    joined.right.set_routes(routes(*hosts(4)))
    joined.advance(40.0)
    assert joined.left.state is State.ESTABLISHED


def test_a_lower_limit_counts_at_once() -> None:
    joined = both_families(0)
    joined.right.set_routes(routes(*hosts(5)))
    joined.start()
    lower = msgspec.structs.replace(joined.left.config, max_prefixes=4)
    joined.left.configure(lower, joined.now)
    joined.settle()
    assert str(joined.left.state) == "Idle"
    assert last_notification(joined, "left").data[-1] == 4


def test_an_operator_who_starts_it_again_need_not_wait() -> None:
    joined = both_families(4)
    joined.right.set_routes(routes(*hosts(5)))
    joined.start()
    joined.right.set_routes(routes(*hosts(4)))
    joined.left.stop(joined.now, Cease.ADMINISTRATIVE_RESET)
    joined.left.start(joined.now)
    joined.advance(1.0)
    assert joined.left.state is State.ESTABLISHED


def test_withdrawn_prefixes_no_longer_count() -> None:
    joined = both_families(4)
    joined.right.set_routes(())
    joined.start()
    for first in range(20):
        joined.right.set_routes(routes(*hosts(4 + first)[first:]))
        joined.settle()
        assert joined.left.status().prefixes_received == 4
        joined.right.set_routes(())
        joined.settle()
        assert joined.left.status().prefixes_received == 0
    assert joined.left.status().established_count == 1


def test_prefixes_of_a_family_that_was_not_agreed_on_are_nothing() -> None:
    joined = link({"families": (IPV4_UNICAST,), "max_prefixes": 1})
    joined.start()
    reach = "80 0e 26 0002 01 10 20010db8000000000000000000000001 00 80 20010db800ff" + "00" * 10
    path = bytes.fromhex(reach + "40 01 01 00 40 02 06 02 01 0000fc01")
    body = b"\x00\x00" + len(path).to_bytes(2, "big") + path
    joined.left.receive(Direction.OUTGOING, encode_frame(MessageType.UPDATE, body), joined.now)
    assert joined.left.status().inbound == (InboundStatus(IPV4_UNICAST, 0, limit=1),)


# -- refreshes -------------------------------------------------------------------------------------


def say(joined: BgpLink, subtype: int, body: bytes = b"") -> None:
    """The right end sends a ROUTE-REFRESH for IPv4."""
    data = body or encode_route_refresh(RouteRefresh(IPV4_UNICAST, subtype))
    joined.left.receive(Direction.OUTGOING, data, joined.now)
    joined.settle()


def test_what_does_not_come_again_in_a_refresh_is_gone() -> None:
    joined = link()
    joined.right.set_routes(routes(*hosts(3)))
    joined.start()
    say(joined, RefreshSubtype.BEGIN)
    assert joined.left.status().prefixes_received == 3  # RFC 7313 §4: stale, but there
    joined.right.set_routes(routes(*hosts(3), local_pref=0, communities=(1,))[:2])
    joined.settle()
    say(joined, RefreshSubtype.END)
    assert joined.left.status().prefixes_received == 2


def test_an_end_without_a_beginning_is_nothing() -> None:
    joined = link()
    joined.right.set_routes(routes(*hosts(3)))
    joined.start()
    say(joined, RefreshSubtype.END)
    assert joined.left.status().prefixes_received == 3


def test_a_beginning_before_the_end_of_rib_is_nothing_where_that_end_is_told() -> None:
    joined = link({"graceful_restart": 60.0}, {"graceful_restart": 60.0})
    joined.start()  # nobody gave right its routes: no End-of-RIB yet
    assert [row.complete for row in joined.left.status().inbound] == [False, False]
    say(joined, RefreshSubtype.BEGIN)
    joined.right.set_routes(routes(*hosts(3)))
    joined.settle()
    joined.right.set_routes(routes(*hosts(3)))
    say(joined, RefreshSubtype.END)
    assert joined.left.status().prefixes_received == 3


def test_an_unknown_subtype_is_ignored_and_a_long_marker_is_not() -> None:
    joined = link()
    joined.start()
    say(joined, 9, encode_frame(MessageType.ROUTE_REFRESH, bytes.fromhex("0001 09 01 ffff")))
    assert joined.left.state is State.ESTABLISHED
    wrong = encode_frame(MessageType.ROUTE_REFRESH, bytes.fromhex("0001 01 01 ff"))
    say(joined, RefreshSubtype.BEGIN, wrong)
    assert last_notification(joined, "left") == Notification(7, 1, wrong)  # RFC 7313 §5


def test_a_refresh_asked_for_during_the_first_transfer_follows_its_end() -> None:
    joined = link()
    joined.start()  # the routes of left are not known yet
    say(joined, RefreshSubtype.REQUEST)
    joined.left.set_routes(routes(*hosts(2)))
    joined.settle()
    kinds = [
        (kind.name, body[2] if kind is MessageType.ROUTE_REFRESH else len(body))
        for who, kind, body in joined.captured
        if who == "left" and kind in (MessageType.UPDATE, MessageType.ROUTE_REFRESH)
    ]
    # RFC 7313 §4: routes, End-of-RIB, then BoRR, routes, EoRR.
    names = [name for name, _ in kinds]
    assert names == ["UPDATE", "UPDATE", "ROUTE_REFRESH", "UPDATE", "ROUTE_REFRESH"]
    assert [value for name, value in kinds if name == "ROUTE_REFRESH"] == [1, 2]
    assert kinds[1][1] == 4  # the End-of-RIB marker


# -- extended messages -----------------------------------------------------------------------------


def test_long_messages_are_offered_and_taken() -> None:
    """RFC 8654 §4."""
    joined = link()
    joined.start()
    (body,) = joined.messages("left", MessageType.OPEN)
    assert decode_open(body).capabilities.extended_messages
    assert joined.left.status().extended_messages
    # 13,000 withdrawn host routes in one UPDATE.
    gone = b"".join(b"\x20" + (0xC6336400 + n).to_bytes(4, "big") for n in range(13_000))
    update = encode_frame(MessageType.UPDATE, len(gone).to_bytes(2, "big") + gone + b"\x00\x00")
    assert len(update) > BGP_EXTENDED_MESSAGE_BYTES - 1000
    for at in range(0, len(update), BGP_CHUNK_BYTES):
        joined.left.receive(Direction.OUTGOING, update[at : at + BGP_CHUNK_BYTES], joined.now)
    assert joined.left.state is State.ESTABLISHED
    assert joined.left.status().received.updates == 1


@pytest.mark.parametrize("kind", [MessageType.OPEN, MessageType.KEEPALIVE])
def test_an_open_or_keepalive_never_grows(kind: MessageType) -> None:
    """RFC 8654 §4: both stay within 4,096 octets."""
    joined = link()
    joined.start()
    joined.left.receive(Direction.OUTGOING, encode_frame(kind, bytes(5000)), joined.now)
    joined.settle()
    assert last_notification(joined, "left") == Notification(1, 2, (5019).to_bytes(2, "big"))


# -- BFD -------------------------------------------------------------------------------------------


def test_bfd_takes_an_established_session_down_at_once_and_it_comes_back() -> None:
    """RFC 5882 §4.1."""
    joined = link()
    joined.start()
    joined.left.bfd_down(joined.now, "BFD: detection time expired")
    joined.settle()
    assert last_notification(joined, "left") == cease(Cease.BFD_DOWN)  # RFC 9384 §3
    assert joined.left.status().last_error.startswith("BFD: detection time expired")
    assert joined.left.state < State.OPEN_SENT
    joined.advance(10.0)
    assert joined.left.state is State.ESTABLISHED


def test_routes_are_not_kept_through_a_loss_that_bfd_saw() -> None:
    joined = link({"graceful_restart": 60.0}, {"graceful_restart": 60.0})
    joined.start()
    joined.left.bfd_down(joined.now, "BFD: detection time expired")
    joined.settle()
    assert last_notification(joined, "left").hard_reset == cease(Cease.BFD_DOWN)  # RFC 9384 §4


def test_bfd_does_not_disturb_a_session_that_is_being_made() -> None:
    joined = link()
    joined.start("left")
    before = joined.left.state
    joined.left.bfd_down(joined.now, "BFD: down")
    assert joined.left.state is before
    assert joined.left.status().last_error == "connection closed"


# -- history ---------------------------------------------------------------------------------------


def test_the_status_tells_what_was_agreed_and_what_happened_when() -> None:
    joined = link({"graceful_restart": 60.0})
    joined.reachable = False
    joined.start()
    begun = joined.now
    joined.advance(3.0)
    joined.reachable = True
    joined.advance(10.0)
    status = joined.left.status()
    assert status.time_to_established == status.since - begun
    assert status.last_error == "connection refused"
    assert status.last_error_at is not None
    assert begun <= status.last_error_at < status.since
    assert (status.route_refresh, status.enhanced_route_refresh) == (True, True)
    ours, theirs = status.our_capabilities, status.peer_capabilities
    assert ours is not None
    assert theirs is not None
    assert ours.graceful_restart is not None
    assert theirs.graceful_restart is None
    assert status.restart is None
    assert status.flaps == 0
    lost = joined.now
    joined.right.stop(joined.now, Cease.ADMINISTRATIVE_RESET, "new software")
    joined.settle()
    status = joined.left.status()
    assert status.last_notification_received == 'Cease/Administrative Reset: "new software"'
    assert status.last_notification_received_at == lost
    assert (status.flaps, status.inbound, status.our_capabilities) == (1, (), None)
    joined.right.start(joined.now)
    joined.advance(10.0)
    status = joined.left.status()
    assert (status.established_count, status.flaps) == (2, 1)
    assert status.time_to_established == status.since - lost


def test_faults_that_end_nothing_are_counted_and_told() -> None:
    """RFC 7606 §2, §8."""
    joined = link()
    joined.start()
    path = bytes.fromhex("40 01 01 00 40 02 06 02 01 0000fc01 40 03 04 c0000202 c0 08 00")
    body = b"\x00\x00" + len(path).to_bytes(2, "big") + path + bytes.fromhex("20 cb007107")
    joined.left.receive(Direction.OUTGOING, encode_frame(MessageType.UPDATE, body), joined.now)
    status = joined.left.status()
    assert (status.state, status.faults, status.prefixes_received) == (State.ESTABLISHED, 1, 0)
    assert status.last_fault == "COMMUNITIES: 0 octets are not a non-zero multiple of 4"


def test_strangers_words_are_shown_without_harm() -> None:
    joined = link()
    joined.start()
    words = b"bye\r\n\x1b[31mred\xe2\x80\xae"
    body = bytes((6, 2, len(words))) + words
    joined.left.receive(
        Direction.OUTGOING, encode_frame(MessageType.NOTIFICATION, body), joined.now
    )
    shown = joined.left.status().last_error
    assert shown == (r'the peer sent Cease/Administrative Shutdown: "bye\r\n\x1b[31mred\u202e"')
