"""Adj-RIB-Out (RFC 4271 §3.2): how few messages carry how much, and what is left out."""

from typing import Any

import msgspec
import pytest

from clarion.base.addr import Prefix, parse_address, parse_prefix
from clarion.base.limits import (
    BGP_CHUNK_BYTES,
    BGP_COMMUNITY_BYTES_MAX,
    BGP_EXTENDED_MESSAGE_BYTES,
    BGP_MESSAGE_BYTES,
    BGP_SHARED_BYTES,
)
from clarion.proto.bgp.adjout import AdjOut
from clarion.proto.bgp.aspath import AsSegment
from clarion.proto.bgp.attrs import LargeCommunity
from clarion.proto.bgp.config import State
from clarion.proto.bgp.encoder import Encoder
from clarion.proto.bgp.iana import IPV4_UNICAST, IPV6_UNICAST, MessageType, SegmentType
from clarion.proto.bgp.routes import Route, RouteTable, Terms
from clarion.proto.bgp.update import Update, decode_update
from clarion.proto.bgp.wire import Framer

from .bgp_kit import link, updates

LARGE = LargeCommunity(64512, 1, 2)
V4, V6 = parse_address("192.0.2.1"), parse_address("2001:db8::1")


def terms(*, internal: bool = False, asn: int = 64512, four: bool = True) -> Terms:
    return Terms(
        local_asn=asn,
        internal=internal,
        four_octet_asn=four,
        next_hops=((IPV4_UNICAST, V4), (IPV6_UNICAST, V6)),
    )


def hosts(count: int, version: int = 4) -> list[Route]:
    base = parse_address("198.51.100.0" if version == 4 else "2001:db8:ff::").value
    length = 32 if version == 4 else 128
    return [Route(Prefix(version, base + n, length)) for n in range(count)]


def taken(out: AdjOut, *, four: bool = True, internal: bool = False) -> list[Update]:
    """Everything that is pending, as UPDATEs without the End-of-RIB markers."""
    framer, updates = Framer(), []
    while data := out.take(BGP_CHUNK_BYTES):
        assert len(data) <= BGP_CHUNK_BYTES
        framer.feed(data)
        while (frame := framer.next_frame()) is not None:
            assert frame.type is MessageType.UPDATE
            update = decode_update(frame.body, four_octet_asn=four, internal=internal)
            assert update.faults == ()
            if update.end_of_rib is None:
                updates.append(update)
    return updates


@pytest.mark.parametrize(
    ("version", "count", "messages"),
    # 4096 octets less 23 of header and lengths and 20 or 38 of attributes: 810 /32, 237 /128.
    [(4, 810, 1), (4, 811, 2), (4, 10_000, 13), (6, 237, 1), (6, 238, 2), (6, 10_000, 43)],
)
def test_prefixes_with_the_same_attributes_share_messages(
    version: int, count: int, messages: int
) -> None:
    out = AdjOut()
    out.set_routes(hosts(count, version))
    out.start(terms())
    updates = taken(out)
    assert len(updates) == messages
    assert sum(len(update.announced) for update in updates) == count == out.announced
    assert out.unsent == 0


def test_withdrawals_are_split_to_the_message_size() -> None:
    out = AdjOut()
    out.set_routes(hosts(5000) + hosts(5000, 6))
    out.start(terms())
    taken(out)
    out.set_routes([])
    updates = taken(out)
    assert sum(len(update.withdrawn_all) for update in updates) == 10_000
    assert len(updates) == 7 + 21  # 5 octets a /32, 17 a /128
    assert out.announced == 0


def test_announcements_precede_withdrawals() -> None:
    out = AdjOut()
    out.set_routes(hosts(4))
    out.start(terms())
    taken(out)
    out.set_routes([Route(parse_prefix("198.51.100.0/30"))])
    first, second = taken(out)
    assert first.nlri == (parse_prefix("198.51.100.0/30"),)
    assert len(second.withdrawn) == 4


def test_local_preference_and_communities_make_the_groups() -> None:
    large = (LargeCommunity(64512, 1, 1),)
    routes = [
        Route(parse_prefix("198.51.100.1/32"), local_pref=100, communities=(2, 1, 1)),
        Route(parse_prefix("198.51.100.2/32"), local_pref=100, communities=(2, 1, 1)),
        Route(parse_prefix("198.51.100.3/32"), local_pref=200, communities=(2, 1, 1)),
        Route(parse_prefix("198.51.100.4/32"), local_pref=200, large_communities=large),
    ]
    out = AdjOut()
    out.set_routes(routes)
    out.start(terms(internal=True))
    found = [
        (len(each.nlri), each.attributes.local_pref, each.attributes.communities)
        for each in taken(out, internal=True)
    ]
    assert found == [(2, 100, (1, 2)), (1, 200, (1, 2)), (1, 200, ())]


def test_a_large_community_is_sent_once() -> None:
    (route,) = hosts(1)
    out = AdjOut()
    out.set_routes([Route(route.prefix, large_communities=(LARGE, LARGE))])
    out.start(terms())
    (update,) = taken(out)
    assert update.attributes.large_communities == (LARGE,)  # RFC 8092 §3


BANDWIDTH_1G = 0x4004FC004CEE6B28  # 64512 and 125,000,000 octets a second as IEEE 754 writes it


def test_the_bandwidth_of_a_link_makes_a_group_of_its_own() -> None:
    """RFC 10005 §2, §5; §3.1: to an external peer too."""
    prefixes = [route.prefix for route in hosts(4)]
    out = AdjOut()
    out.set_routes(
        [
            Route(prefix, link_bandwidth=bandwidth)
            for prefix, bandwidth in zip(prefixes, (0.0, 125e6, 125e6, 250e6), strict=True)
        ]
    )
    out.start(terms())
    found = [(len(update.nlri), update.attributes.extended_communities) for update in taken(out)]
    assert found == [(1, ()), (2, (BANDWIDTH_1G,)), (1, (0x4004FC004D6E6B28,))]


@pytest.mark.parametrize(
    ("internal", "asn", "sent"),
    [
        (True, 64512, (2, 0x0102 << 48, BANDWIDTH_1G, 0x4306 << 48)),
        (False, 64512, (2, 0x0102 << 48, BANDWIDTH_1G)),  # RFC 4360 §6
        (False, 4200000001, (2, 0x0102 << 48, 0x40045BA04CEE6B28)),  # AS_TRANS
    ],
)
def test_extended_communities_are_sent_once_and_in_order(
    internal: bool, asn: int, sent: tuple[int, ...]
) -> None:
    given = (0x4306 << 48, 0x0102 << 48, 2, 0x0102 << 48)
    (route,) = hosts(1)
    out = AdjOut()
    out.set_routes([Route(route.prefix, extended_communities=given, link_bandwidth=125e6)])
    out.start(terms(internal=internal, asn=asn))
    (update,) = taken(out, internal=internal)
    assert update.attributes.extended_communities == sent


def test_a_large_asn_towards_a_two_octet_speaker() -> None:
    """RFC 6793 §4.2.2."""
    out = AdjOut()
    out.set_routes(hosts(1))
    out.start(terms(asn=4200000001, four=False))
    (update,) = taken(out, four=False)
    attributes = update.attributes
    assert attributes.as_path is not None
    assert attributes.as_path[0].asns == (23456,)
    assert attributes.as4_path is not None
    assert attributes.as4_path[0].asns == (4200000001,)


def test_a_family_without_a_next_hop_is_left_out() -> None:
    out = AdjOut()
    out.set_routes(hosts(2) + hosts(2, 6))
    out.start(
        Terms(local_asn=64512, internal=False, four_octet_asn=True, next_hops=((IPV4_UNICAST, V4),))
    )
    assert sum(len(update.announced) for update in taken(out)) == 2
    out.set_routes(hosts(1) + hosts(1, 6))
    (update,) = taken(out)
    assert update.withdrawn == (parse_prefix("198.51.100.1/32"),)


def test_a_change_that_is_taken_back_leaves_no_trace() -> None:
    out = AdjOut()
    out.set_routes(hosts(3))
    out.start(terms())
    taken(out)
    out.set_routes(hosts(2))
    out.set_routes(hosts(4))
    out.set_routes(hosts(3))
    assert not out.pending
    assert out.unsent == 0


def test_routes_with_too_many_communities_are_refused_and_counted() -> None:
    """RFC 4271 §9.2: a route that no message holds is not announced."""
    limit = BGP_COMMUNITY_BYTES_MAX // 4
    prefix = parse_prefix("2001:db8:ff::1/128")
    out = AdjOut()
    out.set_routes([Route(prefix, communities=tuple(range(limit)))])
    out.start(terms(internal=True))
    assert len(taken(out, internal=True)) == 1
    out.set_routes([Route(prefix, communities=tuple(range(limit + 1)))])
    assert out.refused == 1
    assert taken(out, internal=True)[0].withdrawn_all == (prefix,)


def test_of_two_routes_for_a_prefix_the_greater_counts() -> None:
    prefix = parse_prefix("198.51.100.1/32")
    for routes in ([Route(prefix, 1), Route(prefix, 2)], [Route(prefix, 2), Route(prefix, 1)]):
        out = AdjOut()
        out.set_routes(routes)
        out.start(terms(internal=True))
        (update,) = taken(out, internal=True)
        assert update.attributes.local_pref == 2


def test_a_small_budget_still_makes_progress() -> None:
    out = AdjOut()
    out.set_routes(hosts(2000))
    out.start(terms())
    pieces = []
    while out.pending:
        pieces.append(out.take(BGP_MESSAGE_BYTES))
    assert max(map(len, pieces)) <= BGP_MESSAGE_BYTES
    assert len(pieces) == 5  # three UPDATEs and two End-of-RIB markers


def test_the_same_routes_are_encoded_once_for_all_peers() -> None:
    encoder = Encoder()
    outs = [AdjOut(encoder) for _ in range(16)]
    table = RouteTable(hosts(5000) + hosts(5000, 6))
    for out in outs:
        out.start(terms())
        out.set_routes(table)
    octets = []
    while any(out.pending for out in outs):
        octets.append({out.take(BGP_CHUNK_BYTES) for out in outs})
    assert all(len(found) == 1 for found in octets)
    assert encoder.encoded == 7 + 22  # 810 /32 fit, 237 /128
    for out in outs:
        out.change_routes({route.prefix: None for route in hosts(5000)})
    assert len({b"".join(out.take(BGP_CHUNK_BYTES) for _ in range(2)) for out in outs}) == 1
    assert encoder.encoded == 7 + 22 + 7


def test_what_a_peer_is_not_owed_is_not_shared_with_it() -> None:
    first, second, third = hosts(3)
    encoder = Encoder()
    left, right, other = AdjOut(encoder), AdjOut(encoder), AdjOut(encoder)
    for out, agreed in ((left, terms()), (right, terms()), (other, terms(asn=64513))):
        out.start(agreed)
    left.set_routes([first, third])
    right.set_routes([second, third])
    other.set_routes([second, third])
    assert set(taken(left)[0].nlri) == {first.prefix, third.prefix}
    assert set(taken(right)[0].nlri) == {second.prefix, third.prefix}
    right.set_routes([second, third, *(Route(route.prefix, 1) for route in hosts(1620)[3:])])
    left.set_routes([Route(route.prefix, 1) for route in hosts(1620)[1600:]])
    assert len(taken(left)) == 2  # the last prefixes, and two withdrawn
    assert len(taken(right)) == 2  # of 810 and 807 prefixes, though the last of them were encoded
    (update,) = taken(other)
    assert update.attributes.as_path == (AsSegment(SegmentType.AS_SEQUENCE, (64513,)),)


def test_a_peer_that_takes_nothing_costs_a_map_and_delays_nobody() -> None:
    encoder = Encoder()
    stalled, busy = AdjOut(encoder), AdjOut(encoder)
    for out in (stalled, busy):
        out.start(terms(internal=True))
        out.set_routes(hosts(2000))
    for round_ in range(50):
        changed = {route.prefix: Route(route.prefix, round_) for route in hosts(2000)}
        stalled.change_routes(changed)
        busy.change_routes(changed)
        assert sum(len(update.announced) for update in taken(busy, internal=True)) == 2000
    assert stalled.unsent == 2000
    updates = taken(stalled, internal=True)
    assert {update.attributes.local_pref for update in updates} == {49}
    assert len(updates) == 3
    assert encoder.octets <= BGP_SHARED_BYTES


@pytest.mark.parametrize("by", ["set_routes", "change_routes"])
@pytest.mark.parametrize(
    "after",
    [
        {"communities": (64512 << 16 | 9,)},
        {"local_pref": 200},
        {"large_communities": (LargeCommunity(64512, 1, 2),)},
        {"link_bandwidth": 250_000.0},
    ],
)
def test_other_attributes_are_told_without_a_withdrawal(by: str, after: dict[str, Any]) -> None:
    before = hosts(2000)
    changed = [Route(route.prefix, **after) for route in before]
    out = AdjOut()
    out.set_routes(before)
    out.start(terms(internal=True))
    taken(out, internal=True)
    if by == "set_routes":
        out.set_routes(changed)
    else:
        out.change_routes({route.prefix: route for route in changed})
    updates = taken(out, internal=True)
    assert len(updates) == 3
    assert all(not update.withdrawn_all for update in updates)
    assert sum(len(update.announced) for update in updates) == 2000 == out.announced


def test_a_refresh_tells_again_what_changed_there_and_back() -> None:
    prefix = hosts(1)[0].prefix
    route, other = Route(prefix, 1), Route(prefix, 2)
    out = AdjOut()
    out.set_routes([route])
    out.start(terms(internal=True))
    taken(out, internal=True)
    out.change_routes({prefix: other})
    out.refresh(IPV4_UNICAST, enhanced=False)
    out.change_routes({prefix: route})
    (update,) = taken(out, internal=True)
    assert update.attributes.local_pref == 1
    out.refresh(IPV4_UNICAST, enhanced=False)
    out.change_routes({prefix: None})
    (update,) = taken(out, internal=True)
    assert update.withdrawn == (prefix,)


def test_extended_messages_hold_sixteen_times_as_much() -> None:
    """RFC 8654 §4."""
    out = AdjOut()
    out.set_routes(hosts(13_000) + hosts(3900, 6))
    out.start(msgspec.structs.replace(terms(), message_bytes=BGP_EXTENDED_MESSAGE_BYTES))
    framer, announced = Framer(BGP_EXTENDED_MESSAGE_BYTES), []
    while data := out.take(BGP_CHUNK_BYTES):
        framer.feed(data)
        while (frame := framer.next_frame()) is not None:
            update = decode_update(frame.body, four_octet_asn=True, internal=False)
            announced.append(len(update.announced))
    # 65,535 octets less 23, 13 of attributes and 25 of MP_REACH_NLRI; two End-of-RIB markers.
    assert announced == [13_000, 3851, 49, 0, 0]


@pytest.mark.parametrize("by", ["set_routes", "change_routes"])
@pytest.mark.parametrize(
    ("after", "messages"),
    [
        ([Route(route.prefix, communities=(7,)) for route in hosts(256)], 1),
        ([Route(route.prefix, large_communities=(LARGE,)) for route in hosts(256)], 1),
        ([Route(route.prefix, 100) for route in hosts(256)], 0),  # internal peers only
        ([Route(parse_prefix("198.51.100.0/24"))], 2),  # aggregation: one here, 256 gone
        (hosts(255), 1),
        (hosts(256) + hosts(1, 6), 0),  # IPv6 was not negotiated
    ],
)
def test_an_established_session_hears_of_a_change_in_the_least_updates(
    by: str, after: list[Route], messages: int
) -> None:
    joined = link(right={"families": (IPV4_UNICAST,)})
    joined.left.set_routes(hosts(256))
    joined.start()
    before, told = len(updates(joined, "left")), len(joined.captured)
    if by == "set_routes":
        joined.left.set_routes(after)
    else:
        wanted = {route.prefix: route for route in after}
        gone: dict[Prefix, Route | None] = dict.fromkeys(route.prefix for route in hosts(256))
        joined.left.change_routes(gone | wanted)
    joined.settle()
    assert len(updates(joined, "left")) - before == messages
    assert len(joined.captured) - told == messages
    assert joined.left.state is State.ESTABLISHED
