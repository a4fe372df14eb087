"""Two session machines joined back to back: what happens on the line, second by second."""

from itertools import pairwise
from typing import Any

import msgspec
import pytest

from clarion.base.addr import Address, parse_address, parse_prefix
from clarion.base.limits import BGP_RECONNECT_SECONDS_MAX
from clarion.proto.bgp.attrs import LargeCommunity
from clarion.proto.bgp.config import (
    CHANGE_EFFECTS,
    ChangeEffect,
    Direction,
    DynamicAsn,
    PeerConfig,
    State,
    change_effect,
)
from clarion.proto.bgp.iana import (
    IPV4_UNICAST,
    IPV6_UNICAST,
    Cease,
    ErrorCode,
    MessageType,
    OpenError,
)
from clarion.proto.bgp.open import decode_open
from clarion.proto.bgp.session import Dial, Drop, StateChanged
from clarion.proto.bgp.wire import RouteRefresh, encode_route_refresh
from clarion.testing.bgplink import BgpLink

from .bgp_kit import (
    LEFT,
    LEFT6,
    RIGHT,
    RIGHT6,
    last_notification,
    link,
    peer,
    routes,
    updates,
)


def test_a_session_is_established_after_open_and_keepalive_both_ways() -> None:
    joined = link()
    joined.start()
    assert joined.states[-1][1] is State.ESTABLISHED
    order = [(who, kind.name) for who, kind, _ in joined.captured]
    assert sorted(order) == [
        ("left", "KEEPALIVE"),
        ("left", "OPEN"),
        ("right", "KEEPALIVE"),
        ("right", "OPEN"),
    ]
    assert {state for who, state in joined.states if who == "right"} == {
        State.ACTIVE,
        State.OPEN_SENT,
        State.OPEN_CONFIRM,
        State.ESTABLISHED,
    }
    status = joined.left.status()
    assert (status.state, status.remote_asn, status.internal) == (State.ESTABLISHED, 64513, False)
    assert status.hold_time == 9.0
    assert status.keepalive_time == 3.0


def test_it_is_not_established_before_the_peers_keepalive() -> None:
    joined = link()
    joined.start("right")
    joined.left.start(joined.now)
    joined._perform()
    (connection,) = joined.connections
    connection.blocked = {"left"}
    joined.settle()
    connection.blocked = {"right"}
    joined.settle()
    # Right has our OPEN and KEEPALIVE; we have seen its OPEN, but no KEEPALIVE.
    states = [str(session.state) for session in joined.sessions.values()]
    assert states == ["OpenConfirm", "Established"]
    connection.blocked = set()
    joined.settle()
    assert joined.left.state is State.ESTABLISHED


def test_keepalives_hold_the_session_and_silence_ends_it() -> None:
    """RFC 4271 §4.4, §6.5; §10: each timer runs for 75 to 100 %."""
    joined = link()
    joined.start()
    joined.advance(60.0)
    assert joined.left.status().established_count == 1
    assert 20 <= joined.left.status().sent.keepalives <= 30  # every 2.25 s to 3 s
    joined.cut()
    joined.advance(9.0)
    assert str(joined.left.state) == "Active"
    assert joined.left.status().last_error == "the peer sent nothing in the hold time of 9 s"
    assert joined.left.status().last_notification_sent == "Hold Timer Expired"


def test_hold_time_zero_means_no_keepalives_and_no_end() -> None:
    """RFC 4271 §4.2, §4.4."""
    joined = link({"hold_time": 0.0})
    joined.start()
    joined.advance(3600.0)
    assert joined.left.state is State.ESTABLISHED
    assert joined.left.status().sent.keepalives == 1


def test_the_smaller_hold_time_counts_and_keepalive_time_is_at_most_its_third() -> None:
    """RFC 4271 §4.2, §4.4."""
    joined = link({"hold_time": 90.0, "keepalive_time": 20.0}, {"hold_time": 6.0})
    joined.start()
    assert joined.left.status().hold_time == 6.0
    assert joined.left.status().keepalive_time == 2.0


def test_a_refused_connection_is_tried_again_later_and_later() -> None:
    """RFC 4271 §8, DampPeerOscillations."""
    joined = link()
    joined.reachable = False
    joined.start()
    dialled_at = []
    for _ in range(600):
        before = len(joined.dialled)
        joined.advance(0.5)
        if len(joined.dialled) > before:
            dialled_at.append(joined.now - 1000.0)
    gaps = [b - a for a, b in pairwise(dialled_at)]
    assert gaps[0] <= 2.0
    assert all(a <= b + 0.5 for a, b in pairwise(gaps))
    assert max(gaps) <= BGP_RECONNECT_SECONDS_MAX
    joined.reachable = True
    joined.advance(BGP_RECONNECT_SECONDS_MAX)
    assert joined.left.state is State.ESTABLISHED


def test_connect_time_bounds_the_wait() -> None:
    joined = link({"connect_time": 2.0})
    joined.reachable = False
    joined.start()
    joined.advance(60.0)
    assert len(joined.dialled) > 28


def test_an_attempt_without_any_answer_is_given_up_and_made_again() -> None:
    joined = link({"password": "s3cret"})
    joined.silent = True
    joined.start()
    joined.advance(30.0)
    assert len(joined.dialled) >= 3
    assert "wrong password" in joined.left.status().last_error


WRONG_OPEN = [
    # what the right side is, what the left side must answer
    ({"local_asn": 64999}, OpenError.BAD_PEER_AS, "the peer says AS 64999, we expect 64513"),
    ({"router_id": Address(4, 0)}, OpenError.BAD_BGP_IDENTIFIER, "the BGP identifier is 0.0.0.0"),
    ({"hold_time": 2.0}, OpenError.UNACCEPTABLE_HOLD_TIME, "a hold time of 2 s"),
]


@pytest.mark.parametrize(("right", "subcode", "words"), WRONG_OPEN)
def test_a_wrong_open_is_refused(right: dict[str, Any], subcode: OpenError, words: str) -> None:
    joined = link(right=right)
    joined.start()
    notification = last_notification(joined, "left")
    assert (notification.code, notification.subcode) == (ErrorCode.OPEN_MESSAGE, subcode)
    assert joined.left.status().last_error.startswith(words)
    assert joined.right.status().last_notification_received.startswith("Open Message/")


def test_refusal_after_open_does_not_become_a_tight_loop() -> None:
    joined = link(right={"local_asn": 64999})
    joined.start()
    joined.advance(60.0)
    assert len(joined.dialled) < 10


def test_equal_identifiers_are_refused_inside_an_as_and_fine_between_two() -> None:
    """RFC 6286 §2.1."""
    same = parse_address("192.0.2.77")
    internal = link(
        {"router_id": same, "peer_asn": 64512},
        {"router_id": same, "local_asn": 64512},
    )
    internal.start()
    (sender,) = {who for who, kind, _ in internal.captured if kind is MessageType.NOTIFICATION}
    assert last_notification(internal, sender).subcode == OpenError.BAD_BGP_IDENTIFIER
    external = link({"router_id": same}, {"router_id": same})
    external.start()
    assert external.left.state is State.ESTABLISHED


@pytest.mark.parametrize(
    ("wanted", "mine", "established"),
    [
        (DynamicAsn.INTERNAL, 64513, True),
        (DynamicAsn.INTERNAL, 64512, False),
        (DynamicAsn.EXTERNAL, 64512, True),
        (DynamicAsn.EXTERNAL, 64513, False),
    ],
)
def test_a_dynamic_asn_accepts_a_kind_of_peer(
    wanted: DynamicAsn, mine: int, established: bool
) -> None:
    joined = link({"peer_asn": wanted, "local_asn": mine}, {"peer_asn": mine})
    joined.start()
    assert (joined.left.state is State.ESTABLISHED) is established


# -- routes ----------------------------------------------------------------------------------------


def test_external_routes_carry_our_asn_and_no_local_preference() -> None:
    """RFC 4271 §5.1.2, §5.1.5."""
    joined = link()
    joined.left.set_routes(
        routes("203.0.113.7/32", local_pref=100, communities=(0xFFFFFF02, 0x1F400320))
    )
    joined.start()
    first, end = updates(joined, "left")[0], updates(joined, "left")[1:]
    assert first.nlri == (parse_prefix("203.0.113.7/32"),)
    assert first.attributes.next_hop == LEFT
    assert first.attributes.as_path is not None
    assert first.attributes.as_path[0].asns == (64512,)
    assert first.attributes.local_pref is None
    assert first.attributes.communities == (0x1F400320, 0xFFFFFF02)
    assert [each.end_of_rib for each in end] == [IPV4_UNICAST]
    assert joined.right.status().prefixes_received == 1


@pytest.mark.parametrize("preference", [0, 100, 4294967295])
def test_internal_routes_always_carry_local_preference(preference: int) -> None:
    """RFC 4271 §5.1.2, §5.1.5."""
    joined = link({"peer_asn": 64512}, {"local_asn": 64512})
    joined.left.set_routes(routes("203.0.113.7/32", local_pref=preference))
    joined.start()
    attributes = updates(joined, "left", internal=True)[0].attributes
    assert attributes.local_pref == preference
    assert attributes.as_path == ()


@pytest.mark.parametrize("asn", [64999, 4200000001])
def test_the_local_asn_is_all_that_the_peer_sees(asn: int) -> None:
    """FRR's `local-as N no-prepend replace-as`: in the OPEN as in the path."""
    joined = link({"local_asn": asn}, {"peer_asn": asn})
    joined.left.set_routes(routes("203.0.113.7/32"))
    joined.start()
    (body,) = joined.messages("left", MessageType.OPEN)
    assert decode_open(body).true_asn == asn
    assert decode_open(body).asn == (asn if asn < 65536 else 23456)
    path = updates(joined, "left")[0].attributes.as_path
    assert path is not None
    assert [segment.asns for segment in path] == [(asn,)]


def test_large_communities_and_four_octet_asn() -> None:
    joined = link(
        {"local_asn": 4200000001, "peer_asn": 4200000002},
        {"local_asn": 4200000002, "peer_asn": 4200000001},
    )
    large = (LargeCommunity(4200000001, 1, 2),)
    joined.left.set_routes(routes("203.0.113.7/32", large_communities=large))
    joined.start()
    attributes = updates(joined, "left")[0].attributes
    assert attributes.large_communities == large
    assert attributes.as_path is not None
    assert attributes.as_path[0].asns == (4200000001,)


LINK_LOCAL = parse_address("fe80::1")
FAMILIES = [
    # transport, what the interface has besides, whether IPv4 is sent and with which next hop, IPv6
    (LEFT, {"next_hop_ipv6": LEFT6}, LEFT, LEFT6),
    (LEFT, {}, LEFT, None),
    (LEFT6, {"next_hop_ipv4": LEFT, "next_hop_ipv6": LEFT6}, LEFT, LEFT6),
    # No IPv4 address at all: both ends offer RFC 8950 §4, so IPv4 goes by an IPv6 next hop.
    (LEFT6, {"next_hop_ipv6": LEFT6}, LEFT6, LEFT6),
    # Between link-local addresses nothing else of ours is known to be on the peer's link
    # (RFC 2545 §3).
    (LINK_LOCAL, {"next_hop_ipv4": LEFT, "next_hop_ipv6": LEFT6}, LINK_LOCAL, LINK_LOCAL),
]


@pytest.mark.parametrize(("local", "beside", "hop4", "hop6"), FAMILIES)
def test_both_families_go_over_either_transport(
    local: Address, beside: dict[str, Address], hop4: Address | None, hop6: Address | None
) -> None:
    remote = RIGHT if local.version == 4 else RIGHT6
    joined = BgpLink(
        peer("right", remote),
        msgspec.structs.replace(peer("left", local, 64513, 64512), passive=True),
        left_endpoints=beside,
    )
    joined.left.set_routes(routes("203.0.113.7/32", "2001:db8:ff::7/128"))
    joined.start()
    hops: dict[int, Address] = {}
    for update in updates(joined, "left"):
        reach = update.attributes.mp_reach
        if update.nlri and update.attributes.next_hop:
            hops[4] = update.attributes.next_hop
        if reach and reach.prefixes:
            hops[reach.prefixes[0].version] = reach.next_hops[0]
    assert hops == {v: hop for v, hop in ((4, hop4), (6, hop6)) if hop is not None}
    by_family = {row.family: row for row in joined.left.status().families}
    assert by_family[IPV4_UNICAST].next_hop == hop4
    assert by_family[IPV6_UNICAST].next_hop == hop6
    if hop6 is None:
        reason = by_family[IPV6_UNICAST].reason
        assert reason == "no next hop: the interface of 192.0.2.1 lacks a global IPv6 address"


def test_a_family_that_the_peer_did_not_offer_is_not_sent_and_the_status_says_so() -> None:
    joined = link(right={"families": (IPV4_UNICAST,)})
    joined.left.set_routes(routes("2001:db8:ff::7/128"))
    joined.start()
    (_, six) = joined.left.status().families
    assert (six.sent, six.reason) == (False, "the peer did not offer this family")
    assert [each.end_of_rib for each in updates(joined, "left")] == [IPV4_UNICAST]


def test_a_change_sends_only_itself() -> None:
    joined = link()
    joined.left.set_routes(routes("203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32"))
    joined.start()
    before = len(updates(joined, "left"))
    changed = routes("203.0.113.1/32") + routes("203.0.113.2/32", communities=(1,))
    joined.left.set_routes(changed)
    joined.settle()
    first, second = updates(joined, "left")[before:]
    assert first.nlri == (parse_prefix("203.0.113.2/32"),)
    assert second.withdrawn == (parse_prefix("203.0.113.3/32"),)
    joined.left.set_routes(list(reversed(changed)))
    joined.settle()
    assert len(updates(joined, "left")) == before + 2


def test_all_routes_come_again_with_a_new_session() -> None:
    joined = link()
    joined.left.set_routes(routes("203.0.113.1/32"))
    joined.start()
    joined.cut()
    joined.advance(9.0)
    assert joined.left.status().prefixes_announced == 0
    assert joined.left.status().prefixes_pending == 1
    joined.mend()
    joined.advance(60.0)
    assert joined.left.status().established_count == 2
    assert joined.right.status().prefixes_received == 1


def test_the_end_of_rib_waits_until_routes_are_known() -> None:
    joined = link()
    joined.start()
    assert updates(joined, "left") == []
    joined.left.set_routes([])
    joined.settle()
    assert [each.end_of_rib for each in updates(joined, "left")] == [IPV4_UNICAST]


def test_a_route_refresh_brings_everything_again() -> None:
    joined = link()
    joined.left.set_routes(routes("203.0.113.1/32", "203.0.113.2/32"))
    joined.start()
    before = len(joined.captured)
    request = encode_route_refresh(RouteRefresh(IPV4_UNICAST))
    joined.left.receive(Direction.OUTGOING, request, joined.now)
    joined.settle()
    again = [(kind.name, body) for who, kind, body in joined.captured[before:] if who == "left"]
    # RFC 7313 §4.1: BoRR, the routes, EoRR.
    assert [name for name, _ in again] == ["ROUTE_REFRESH", "UPDATE", "ROUTE_REFRESH"]
    assert [body[2] for name, body in again if name == "ROUTE_REFRESH"] == [1, 2]
    assert joined.left.status().prefixes_announced == 2


# -- faults and ends -------------------------------------------------------------------------------


def test_a_stop_says_goodbye_with_words() -> None:
    """RFC 4486 §3, RFC 9003 §2."""
    joined = link()
    joined.start()
    joined.left.stop(joined.now, Cease.ADMINISTRATIVE_SHUTDOWN, "maintenance until 18:00")
    joined.settle()
    notification = last_notification(joined, "left")
    assert (notification.code, notification.subcode) == (6, 2)
    assert notification.communication == "maintenance until 18:00"
    assert joined.left.state is State.IDLE
    assert joined.left.next_deadline() is None
    assert '"maintenance until 18:00"' in joined.right.status().last_error
    joined.advance(600.0)
    assert joined.left.state is State.IDLE


def test_words_of_255_octets_go_both_ways() -> None:
    joined = link()
    joined.start()
    words = "ü" * 127 + "!"  # RFC 9003 §2: as many octets as fit
    joined.left.stop(joined.now, Cease.ADMINISTRATIVE_RESET, words)
    joined.settle()
    assert len(last_notification(joined, "left").data) == 256
    heard = joined.right.status().last_notification_received
    assert heard == f'Cease/Administrative Reset: "{words}"'


@pytest.mark.parametrize(
    ("state", "subcode"), [(State.OPEN_SENT, 1), (State.OPEN_CONFIRM, 2), (State.ESTABLISHED, 3)]
)
def test_a_message_out_of_place_is_a_state_machine_error(state: State, subcode: int) -> None:
    """RFC 4271 §6.6; RFC 6608 §3: the subcode is the state."""
    joined = link()
    joined.start("right")
    joined.left.start(joined.now)
    joined._perform()
    (connection,) = joined.connections
    if state is not State.ESTABLISHED:
        connection.blocked = {"right"}
    joined.settle()
    if state is State.OPEN_CONFIRM:
        opening = joined.right.take(Direction.INCOMING, 1 << 16)[:-19]
        joined.left.receive(Direction.OUTGOING, opening, joined.now)
    assert joined.left.state is state
    # An UPDATE before Established, an OPEN in it.
    wrong = bytes.fromhex("ff" * 16 + "0017" + "02" + "00000000")
    if state is State.ESTABLISHED:
        wrong = bytes.fromhex("ff" * 16 + "001d" + "01" + "04fc01005ac000020200")
    joined.left.receive(Direction.OUTGOING, wrong, joined.now)
    drop = next(each for each in joined.left.outputs() if isinstance(each, Drop))
    # RFC 6608 §4: the data is the type of the message.
    words = bytes((ErrorCode.FINITE_STATE_MACHINE, subcode, wrong[18]))
    assert drop.last_words[-3:] == words


def test_bytes_that_are_not_bgp_end_the_connection_only() -> None:
    joined = link()
    joined.start()
    joined.left.receive(Direction.OUTGOING, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", joined.now)
    joined.settle()
    assert (last_notification(joined, "left").code, last_notification(joined, "left").subcode) == (
        ErrorCode.MESSAGE_HEADER,
        1,
    )
    joined.advance(5.0)
    assert joined.left.state is State.ESTABLISHED


def test_a_peer_that_takes_nothing_is_given_up_at_last() -> None:
    """RFC 9687 §3, §3.2."""
    joined = link()
    joined.start()
    connection = joined.connections[0]
    connection.blocked = {"left"}
    while joined.left.state is State.ESTABLISHED:  # right talks on, and bears our silence
        joined.left.receive(Direction.OUTGOING, bytes.fromhex("ff" * 16 + "001304"), joined.now)
        joined.now += 3.0
        joined.left.timers(joined.now)
    assert 480.0 <= joined.now - 1000.0 <= 490.0
    assert "send hold timer" in joined.left.status().last_error
    assert joined.left.status().last_notification_sent == "Send Hold Timer Expired"


def test_unsent_work_stays_state_and_not_bytes() -> None:
    joined = link()
    joined.start()
    connection = joined.connections[0]
    connection.blocked = {"left"}
    for number in range(1000):
        joined.left.set_routes(routes("203.0.113.1/32", local_pref=number, communities=(number,)))
    joined.left.set_routes(routes("203.0.113.2/32"))
    connection.blocked = set()
    joined.settle()
    sent = [each for each in updates(joined, "left") if each.end_of_rib is None]
    assert [each.nlri for each in sent] == [(parse_prefix("203.0.113.2/32"),)]


# -- configuration ---------------------------------------------------------------------------------


def test_every_field_of_a_peer_has_an_effect() -> None:
    fields = {field.name for field in msgspec.structs.fields(PeerConfig)}
    assert fields == set(CHANGE_EFFECTS)


def test_timers_change_live() -> None:
    joined = link()
    joined.start()
    faster = msgspec.structs.replace(joined.left.config, keepalive_time=1.0, connect_time=5.0)
    assert change_effect(joined.left.config, faster) is ChangeEffect.LIVE
    joined.left.configure(faster, joined.now)
    assert joined.left.status().keepalive_time == 1.0
    assert joined.left.state is State.ESTABLISHED


def test_passive_can_be_switched_live() -> None:
    joined = link({"passive": True})
    joined.start()
    assert str(joined.left.state) == "Active"
    active = msgspec.structs.replace(joined.left.config, passive=False)
    joined.left.configure(active, joined.now)
    joined.advance(0.1)
    assert joined.left.state is State.ESTABLISHED


def test_the_password_is_never_shown() -> None:
    config = msgspec.structs.replace(peer("right", RIGHT), password="s3cret")
    assert "s3cret" not in repr(config) + str(config) + f"{config}"
    assert "password=***" in repr(config)


def test_outputs_are_values_that_can_be_written_down() -> None:
    every = [
        Dial(),
        Drop(Direction.OUTGOING, b"x"),
        StateChanged(State.IDLE, State.CONNECT, "because"),
    ]
    written = msgspec.json.encode(every)
    assert msgspec.json.decode(written, type=list[Dial | Drop | StateChanged]) == every
