"""Metrics of sessions: whatever peers a node has, no series comes twice."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from clarion.base.addr import parse_address
from clarion.daemons.sessionsamples import message_samples, session_labels, session_samples
from clarion.decide.settings import Peer
from clarion.edge.metrics import Metrics
from clarion.model.sessions import BGPSessionStatus
from clarion.proto.bgp.config import MessageCounts

NONE = MessageCounts(0, 0, 0, 0, 0, 0)
PLACES = st.one_of(
    st.sampled_from(["192.0.2.1", "192.0.2.2", "fe80::1"]).map(
        lambda text: {"address": parse_address(text)}
    ),
    st.sampled_from(["eth0", "eth1"]).map(lambda name: {"interface": name}),
)
PEERS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.builds(
        lambda place, port, vrf: Peer(name="", my_asn=64500, port=port, vrf=vrf, **place),
        PLACES,
        st.sampled_from([179, 1179]),
        st.sampled_from(["", "red", "blue"]),
    ),
)


@given(PEERS)
def test_no_series_comes_twice(peers: dict[str, Peer]) -> None:
    labels = session_labels(peers)
    assert labels.keys() == peers.keys()
    registry = Metrics()
    for each in labels.values():
        report = BGPSessionStatus(state="Established")
        registry.add(lambda report=report, each=each: session_samples(report, each))  # type: ignore[misc]
        registry.add(lambda each=each: message_samples(NONE, NONE, each))  # type: ignore[misc]
    lines = registry.render().decode().splitlines()
    series = Counter(line.rpartition(" ")[0] for line in lines if not line.startswith("#"))
    assert {name for name, count in series.items() if count > 1} == set()
    shown = [name for name in series if name.startswith("metallb_bgp_session_up{")]
    assert len(shown) == len(peers)


@given(PEERS)
def test_a_peer_that_is_alone_at_its_place_is_labelled_as_metallb_does(
    peers: dict[str, Peer],
) -> None:
    places = Counter((peer.target, peer.port, peer.vrf) for peer in peers.values())
    for name, (label, vrf) in session_labels(peers).items():
        peer = peers[name]
        assert vrf == (peer.vrf or "default")
        if peer.address is not None and places[peer.target, peer.port, peer.vrf] == 1:
            assert label in (f"{peer.target}:{peer.port}", f"[{peer.target}]:{peer.port}")
