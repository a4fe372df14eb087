"""BGP under Hypothesis: round trips, hostile bytes, the state machine, convergence."""

from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.base.addr import BITS, Address, Prefix, covering_prefix
from clarion.base.errors import DecodeError
from clarion.base.limits import BGP_CHUNK_BYTES
from clarion.proto.bgp.adjout import AdjOut
from clarion.proto.bgp.aspath import AsSegment
from clarion.proto.bgp.attrs import (
    ROWS,
    Aggregator,
    LargeCommunity,
    MpReach,
    MpUnreach,
    PathAttributes,
    RawAttribute,
    decode_attributes,
    encode_attributes,
    merge_as4_path,
)
from clarion.proto.bgp.fsm import OTHERWISE, TABLE, Event, Machine
from clarion.proto.bgp.iana import (
    IPV4_UNICAST,
    IPV6_UNICAST,
    Family,
    MessageType,
    Origin,
    SegmentType,
)
from clarion.proto.bgp.nlri import decode_prefixes, encode_prefixes
from clarion.proto.bgp.notify import (
    Notification,
    decode_notification,
    describe,
    encode_notification,
)
from clarion.proto.bgp.open import (
    Capabilities,
    GracefulRestart,
    NextHopEncoding,
    Open,
    RawCapability,
    RestartFamily,
    decode_open,
    encode_open,
)
from clarion.proto.bgp.routes import Route, Terms
from clarion.proto.bgp.update import Update, decode_update, encode_update
from clarion.proto.bgp.wire import (
    Framer,
    decode_route_refresh,
)

gate = settings(derandomize=True, max_examples=300, deadline=None, database=None)

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
asns = st.integers(1, 0xFFFFFFFF)
address4 = u32.map(lambda value: Address(4, value))
address6 = st.integers(0, (1 << 128) - 1).map(lambda value: Address(6, value))


def prefixes(version: int) -> st.SearchStrategy[Prefix]:
    bits = BITS[version]
    values, lengths = st.integers(0, (1 << bits) - 1), st.integers(0, bits)
    return st.builds(
        lambda value, length: covering_prefix(Address(version, value), length), values, lengths
    )


def many(each: st.SearchStrategy[Any], most: int = 5) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(each, max_size=most).map(tuple)


families = st.sampled_from([IPV4_UNICAST, IPV6_UNICAST])
segments = st.builds(
    AsSegment, st.sampled_from(SegmentType), st.lists(asns, min_size=1, max_size=6).map(tuple)
)
# What of a path is not refused (RFC 9774 §3).
accepted = segments.filter(
    lambda each: each.type in (SegmentType.AS_SEQUENCE, SegmentType.AS_CONFED_SEQUENCE)
)
large = st.builds(LargeCommunity, u32, u32, u32)
reach = st.one_of(
    st.builds(
        MpReach,
        st.just(IPV4_UNICAST),
        st.one_of(st.tuples(address4), st.tuples(address6), st.tuples(address6, address6)),
        many(prefixes(4)),
    ),
    st.builds(
        MpReach,
        st.just(IPV6_UNICAST),
        st.one_of(st.tuples(address6), st.tuples(address6, address6)),
        many(prefixes(6)),
    ),
)
unreach = st.one_of(
    st.builds(MpUnreach, st.just(IPV4_UNICAST), many(prefixes(4))),
    st.builds(MpUnreach, st.just(IPV6_UNICAST), many(prefixes(6))),
)
unknown = st.builds(
    RawAttribute,
    u8.filter(lambda code: code not in ROWS),
    st.sampled_from([0x80, 0xC0, 0xE0]),
    st.binary(max_size=300),
)
attributes = st.builds(
    PathAttributes,
    origin=st.none() | st.sampled_from(Origin),
    as_path=st.none() | many(accepted, 3),
    next_hop=st.none() | st.builds(Address, st.just(4), st.integers(1, 0xDFFFFFFF)),
    multi_exit_disc=st.none() | u32,
    local_pref=st.none() | u32,
    atomic_aggregate=st.booleans(),
    aggregator=st.none() | st.builds(Aggregator, asns, address4),
    communities=many(u32),
    originator_id=st.none() | address4,
    cluster_list=many(address4),
    mp_reach=st.none() | reach,
    mp_unreach=st.none() | unreach,
    extended_communities=many(st.integers(0, 2**64 - 1)),
    as4_path=st.none() | many(segments, 3),
    as4_aggregator=st.none() | st.builds(Aggregator, asns, address4),
    large_communities=many(large),
    unknown=st.lists(unknown, max_size=3, unique_by=lambda raw: raw.code).map(tuple),
)
capabilities = st.builds(
    Capabilities,
    families=st.lists(st.builds(Family, u16, u8), max_size=4, unique=True).map(tuple),
    route_refresh=st.booleans(),
    extended_next_hops=st.lists(
        st.builds(NextHopEncoding, st.builds(Family, u16, u16), u16), max_size=3, unique=True
    ).map(tuple),
    four_octet_asn=st.none() | asns,
    enhanced_route_refresh=st.booleans(),
    extended_messages=st.booleans(),
    graceful_restart=st.none()
    | st.builds(
        GracefulRestart,
        st.integers(0, 0xFFF),
        st.booleans(),
        st.booleans(),
        many(st.builds(RestartFamily, st.builds(Family, u16, u8), st.booleans()), 3),
    ),
    unknown=many(
        st.builds(
            RawCapability,
            u8.filter(lambda code: code not in (1, 2, 5, 6, 64, 65, 70)),
            st.binary(max_size=255),
        ),
        4,
    ),
)
opens = st.builds(
    Open,
    st.integers(1, 0xFFFF),
    u16.filter(lambda seconds: seconds not in (1, 2)),
    address4.filter(lambda address: address.value != 0),
    capabilities,
)


@gate
@given(st.sampled_from([4, 6]), st.data())
def test_prefixes_survive_the_wire(version: int, data: st.DataObject) -> None:
    value = data.draw(many(prefixes(version), 20))
    assert decode_prefixes(encode_prefixes(value), version) == value


@gate
@given(opens)
def test_opens_survive_the_wire(value: Open) -> None:
    assert decode_open(encode_open(value)[19:]) == value


@gate
@given(attributes)
def test_attributes_survive_the_wire(value: PathAttributes) -> None:
    written = encode_attributes(value, four_octet_asn=True)
    read, faults = decode_attributes(written, four_octet_asn=True, internal=True)
    assert read == value
    assert faults == ()


@gate
@given(many(prefixes(4)), attributes, many(prefixes(4)))
def test_updates_survive_the_wire(
    withdrawn: tuple[Prefix, ...], value: PathAttributes, nlri: tuple[Prefix, ...]
) -> None:
    update = Update(withdrawn, value, nlri)
    read = decode_update(
        encode_update(update, four_octet_asn=True)[19:], four_octet_asn=True, internal=True
    )
    assert (read.withdrawn, read.attributes, read.nlri) == (withdrawn, value, nlri)


@gate
@given(st.builds(Notification, u8, u8, st.binary(max_size=300)))
def test_notifications_survive_the_wire_and_can_be_told(value: Notification) -> None:
    assert decode_notification(encode_notification(value)[19:]) == value
    assert describe(value)


DECODERS: dict[str, Callable[[bytes], object]] = {
    "open": decode_open,
    "notification": decode_notification,
    "route refresh": decode_route_refresh,
    "update": lambda data: decode_update(data, four_octet_asn=True, internal=True),
    "update, two octets": lambda data: decode_update(data, four_octet_asn=False, internal=False),
    "attributes": lambda data: decode_attributes(data, four_octet_asn=True, internal=False),
    "prefixes 4": lambda data: decode_prefixes(data, 4),
    "prefixes 6": lambda data: decode_prefixes(data, 6),
}
assert len(DECODERS) >= 8  # a decoder that loses its row is a decoder nobody attacks


def decode_fault(decode: Callable[[], object]) -> DecodeError | None:
    """The one kind of error that a decoder may raise."""
    try:
        decode()
    except DecodeError as error:
        return error
    return None


@gate
@given(st.sampled_from(sorted(DECODERS)), st.binary(max_size=200))
def test_any_bytes_decode_or_raise_decode_error(name: str, data: bytes) -> None:
    fault = decode_fault(lambda: DECODERS[name](data))
    assert fault is None or (1 <= fault.code <= 7 and fault.message)


@gate
@given(attributes, st.lists(st.tuples(st.integers(0, 400), u8), max_size=4), st.booleans())
def test_damaged_attributes_decode_or_raise_decode_error(
    value: PathAttributes, damage: list[tuple[int, int]], internal: bool
) -> None:
    """Bytes close to a real message reach deeper than random ones."""
    written = bytearray(encode_attributes(value, four_octet_asn=True))
    for position, octet in damage:
        if position < len(written):
            written[position] = octet

    def decode() -> tuple[PathAttributes, object]:
        return decode_attributes(bytes(written), four_octet_asn=True, internal=internal)

    fault = decode_fault(decode)
    if fault is not None:
        assert fault.code == 3
        return
    read, _ = decode()
    merge_as4_path(read)
    again = encode_attributes(read, four_octet_asn=True)
    assert decode_attributes(again, four_octet_asn=True, internal=True)[0] == read


@gate
@given(opens, st.lists(st.tuples(st.integers(0, 200), u8), min_size=1, max_size=4))
def test_damaged_opens_decode_or_raise_decode_error(
    value: Open, damage: list[tuple[int, int]]
) -> None:
    body = bytearray(encode_open(value)[19:])
    for position, octet in damage:
        if position < len(body):
            body[position] = octet
    fault = decode_fault(lambda: decode_open(bytes(body)))
    if fault is not None:
        assert fault.code == 2
        return
    read = decode_open(bytes(body))
    assert decode_open(encode_open(read)[19:]) == read


@gate
@given(st.lists(st.sampled_from(Event), max_size=30))
def test_the_machine_follows_its_table_from_any_history(events: list[Event]) -> None:
    machine = Machine()
    for event in events:
        before = machine.state
        expected = TABLE.get((before, event)) or OTHERWISE[before]
        assert machine.step(event) is expected
        assert machine.state is expected.state
        assert machine.expects(event) is ((machine.state, event) in TABLE)


LOCAL, REMOTE = Address(4, 0xC0000201), Address(4, 0xC0000202)


pool = [Prefix(4, 0xCB007100 + n, 32) for n in range(6)] + [
    Prefix(6, (0x20010DB8 << 96) + n, 128) for n in range(4)
]
route = st.builds(
    Route, st.sampled_from(pool), st.integers(0, 1), st.sampled_from([(), (1,), (1, 2)])
)
works = st.one_of(
    st.tuples(st.just("set"), st.lists(route, max_size=10)),
    st.tuples(st.just("change"), st.dictionaries(st.sampled_from(pool), st.none() | route)),
    st.tuples(st.just("take"), st.none()),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("refresh"), st.sampled_from([IPV4_UNICAST, IPV6_UNICAST])),
)
TERMS = Terms(
    local_asn=64512,
    internal=True,
    four_octet_asn=True,
    next_hops=((IPV4_UNICAST, LOCAL), (IPV6_UNICAST, Address(6, 1))),
)


class Receiver:
    """A peer's table, built from nothing but the bytes."""

    def __init__(self) -> None:
        self.table: dict[Prefix, tuple[int | None, tuple[int, ...]]] = {}
        self.repeated = 0
        self.framer = Framer()

    def read(self, data: bytes) -> None:
        self.framer.feed(data)
        while (frame := self.framer.next_frame()) is not None:
            if frame.type is not MessageType.UPDATE:
                continue
            update = decode_update(frame.body, four_octet_asn=True, internal=True)
            for prefix in update.withdrawn_all:
                del self.table[prefix]  # nothing is withdrawn that was never announced
            value = (update.attributes.local_pref, update.attributes.communities)
            for prefix in update.announced:
                self.repeated += self.table.get(prefix) == value
                self.table[prefix] = value


@gate
@given(st.lists(works, max_size=20), st.lists(route, max_size=10))
def test_the_peers_table_converges_to_the_desired_routes(
    history: list[tuple[str, Any]], last: list[Route]
) -> None:
    out, peer, refreshed = AdjOut(), Receiver(), False
    out.start(TERMS)
    for what, value in [*history, ("set", last)]:
        if what == "set":
            out.set_routes(value)
        elif what == "change":
            out.change_routes(
                {p: r and msgspec.structs.replace(r, prefix=p) for p, r in value.items()}
            )
        elif what == "take":
            peer.read(out.take(BGP_CHUNK_BYTES))
        elif what == "refresh":
            out.refresh(value, enhanced=False)
            refreshed = True
        else:
            out.start(TERMS)
            peer = Receiver()
    while out.pending:
        peer.read(out.take(BGP_CHUNK_BYTES))
    wanted: dict[Prefix, Route] = {}
    for each in sorted(last):
        wanted[each.prefix] = each
    assert peer.table == {p: (r.local_pref, r.communities) for p, r in wanted.items()}
    assert out.announced == len(wanted)
    assert out.unsent == 0
    if not refreshed:
        assert peer.repeated == 0  # the least UPDATEs: nothing is told twice
