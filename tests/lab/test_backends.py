"""What the resources offer, on both back ends at once: each scenario is judged at the routers.

The same object is applied once and obeyed by two nodes, one that speaks BGP itself and one that
drives an FRR; a difference between the two is a failure.
"""

import os
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from clarion.lab.netns import Lab, sweep
from clarion.lab.nodes import SYSTEM_NAMESPACE
from clarion.model.annotations import LINK_BANDWIDTH

from .backend_bed import (
    ADVERTISED,
    BACK_ENDS,
    BIRD,
    DRIVEN,
    FRR_ASN,
    MARKS,
    NATIVE,
    NODES,
    NODES_ASN,
    PEERS,
    TIMERS,
    V4,
    V6,
    Bed,
    addresses,
    advertisement,
    endpoints,
    openbgpd_config,
    peer,
    states,
)
from .conftest import TEST_PREFIX
from .programs_bed import metallb

pytestmark = pytest.mark.lab

AGGREGATE4, AGGREGATE6 = "203.0.113.0/24", "2001:db8:5::/64"


@pytest.fixture(scope="module")
def shared() -> Iterator[Bed]:
    sweep(prefix=TEST_PREFIX)
    with Lab(f"{TEST_PREFIX}{os.getpid()}b") as lab:
        made = Bed(lab)
        made.up()
        yield made


@pytest.fixture
def bed(shared: Bed) -> Iterator[Bed]:
    shared.wait_default()
    yield shared
    shared.wait_default()


def test_routes_have_their_attributes_over_either_transport(bed: Bed) -> None:
    """All that `wait_default` asks for, and what our side says of it."""
    for label in ("192.0.2.1:179", "[2001:db8:1::1]:179", "192.0.2.2:179", "192.0.2.4:179"):
        bed.wait_metric(f'metallb_bgp_session_up{{peer="{label}",vrf="default"}} 1.0')
    bed.wait_metric('metallb_bgp_announced_prefixes_total{peer="192.0.2.1:179",vrf="default"} 1.0')
    for router, asns in ((bed.frr, (NODES_ASN,)), (bed.bird, ()), (bed.openbgpd, (NODES_ASN,))):
        for address, path in bed.paths(router, V4).items():
            assert (path.as_path, path.next_hop) == (asns, address)
    for address, path in bed.paths(bed.frr, V6).items():
        assert path.next_hop == address


def test_a_changed_advertisement_resets_no_session(bed: Bed) -> None:
    before = bed.connections()
    changed = advertisement(
        localPref=50,
        communities=["large:64500:3:4", "64500:9"],
        aggregationLength=24,
        aggregationLengthV6=64,
    )
    like = {"communities": {"64500:9"}, "large_communities": {"64500:3:4"}}
    with bed.applied(changed):
        bed.wait_paths(bed.frr, AGGREGATE4, of=addresses(4), like=like)
        bed.wait_paths(bed.frr, AGGREGATE6, of=addresses(6), like=like)
        bed.wait_paths(bed.openbgpd, AGGREGATE4, of=addresses(4), like=like)
        bed.wait_paths(bed.bird, AGGREGATE4, of=addresses(4), like={**like, "local_pref": 50})
        for router in bed.routers.values():
            bed.wait_paths(router, V4, of=set())
    bed.wait_default()
    assert bed.connections() == before


def test_an_advertisement_for_one_peer_reaches_no_other(bed: Bed) -> None:
    before = bed.connections()
    with bed.applied(advertisement(peers=["bird", "frr6"])):
        for router in (bed.frr, bed.openbgpd):
            bed.wait_paths(router, V4, of=set())
        bed.wait_paths(bed.bird, V4, of=addresses(4))
        bed.wait_paths(bed.frr, V6, of=addresses(6))
    bed.wait_default()
    assert bed.connections() == before


def test_a_second_advertisement_adds_an_aggregate_for_one_peer(bed: Bed) -> None:
    before = bed.connections()
    spec = {**ADVERTISED, "aggregationLength": 28, "communities": [], "peers": ["openbgpd"]}
    with bed.applied(metallb("BGPAdvertisement", "more", **spec)):
        bed.wait_paths(bed.openbgpd, "203.0.113.0/28", of=addresses(4), like={"communities": set()})
        bed.wait_paths(bed.openbgpd, V4, of=addresses(4), like={"communities": MARKS[0]})
        assert set(bed.frr.learned(4)) == {V4}
    bed.wait_default()
    assert bed.connections() == before


def test_a_selector_of_nodes_keeps_a_peer_to_some(bed: Bed) -> None:
    """The session of the other node ends, and no other session knows of it."""
    before = bed.connections()
    own = {"kubernetes.io/hostname": DRIVEN}
    with bed.applied(peer("openbgpd", nodeSelectors=[{"matchLabels": own}])):
        bed.wait_paths(bed.openbgpd, V4, of=addresses(4, DRIVEN))
    bed.wait_default()
    after = bed.connections()
    native = ("openbgpd", NODES[NATIVE][0])
    assert after.pop(native) != before.pop(native)
    assert after == before


def test_a_removed_peer_takes_no_other_along(bed: Bed) -> None:
    before = bed.connections("bird")
    bed.delete("bgppeer", "bird")
    try:
        bed.wait(
            "BIRD has lost both sessions",
            lambda: not any(each.established for each in bed.bird.neighbors().values()),
        )
        for back_end in BACK_ENDS:
            bed.wait(
                f"{back_end} has no figures of it",
                lambda name=back_end: f'peer="{BIRD}:179"' not in bed.metrics(name),  # type: ignore[misc]
            )
    finally:
        bed.apply(peer("bird"))
    bed.wait_default()
    assert bed.connections("bird") == before


def test_passwords_of_one_peer_change_and_no_other_session_knows(bed: Bed) -> None:
    """By a Secret, then by another one: right at first, then not the router's."""
    before = bed.connections("openbgpd")

    def secret(password: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/basic-auth",
            "metadata": {"name": "openbgpd", "namespace": SYSTEM_NAMESPACE},
            "stringData": {"username": "-", "password": password},
        }

    reference = {"name": "openbgpd", "namespace": SYSTEM_NAMESPACE}
    bed.openbgpd.configure(openbgpd_config(password="first"))
    try:
        bed.apply(secret("first"), peer("openbgpd", passwordSecret=reference))
        bed.wait_paths(bed.openbgpd, V4, of=addresses(4))
        bed.apply(secret("not-the-routers"))
        bed.wait_paths(bed.openbgpd, V4, of=set())
        bed.wait_metric('metallb_bgp_session_up{peer="192.0.2.4:179",vrf="default"} 0.0')
        for node in bed.nodes.values():
            log = (node.speaker.log if node.speaker else None) or pytest.fail("no log")
            assert "not-the-routers" not in log.read_text()
        bed.apply(secret("first"))
        bed.wait_paths(bed.openbgpd, V4, of=addresses(4))
    finally:
        bed.openbgpd.configure(openbgpd_config())
        bed.apply(peer("openbgpd"))
        bed.delete("secret", "openbgpd")
    bed.wait_default()
    assert bed.connections("openbgpd") == before


def test_a_hold_time_is_offered_with_the_next_session(bed: Bed) -> None:
    before = bed.connections()

    def wait_hold(seconds: int) -> None:
        """Begin sessions anew until both agreed on it: until the nodes have read the object."""

        def agreed() -> bool:
            found = bed.openbgpd.neighbors()
            up = all(each.established for each in found.values())
            others = [name for name, each in found.items() if each.hold_time != seconds]
            for address in others if up else ():
                bed.openbgpd.bgpctl("neighbor", address, "clear")
            return up and not others

        bed.wait(f"both sessions agreed on {seconds} s", agreed, seen=bed.openbgpd.neighbors)

    with bed.applied(peer("openbgpd", holdTime="6s", keepaliveTime="2s")):
        bed.wait_default()
        assert bed.connections() == before
        wait_hold(6)
    wait_hold(9)
    bed.wait_default()
    assert bed.connections("openbgpd").items() <= before.items()


def test_a_wrong_asn_is_seen_at_both_ends(bed: Bed) -> None:
    before = bed.connections("openbgpd")
    with bed.applied(peer("openbgpd", peerASN=64999)):
        bed.wait_paths(bed.openbgpd, V4, of=set())
        bed.wait_metric('metallb_bgp_session_up{peer="192.0.2.4:179",vrf="default"} 0.0')

        def told() -> bool:
            said = [each.last_error for each in bed.openbgpd.neighbors().values()]
            return all("received error in OPEN message, AS unacceptable" in each for each in said)

        bed.wait("the router was told why", told, seen=bed.openbgpd.neighbors)
    # The router waits long before it listens to who sent it an error.
    bed.openbgpd.restart()
    bed.wait_default()
    assert bed.connections("openbgpd") == before


def test_one_session_carries_both_families_and_takes_any_external_asn(bed: Bed) -> None:
    dual = peer("frr", dynamicASN="external", dualStackAddressFamily=True)
    del dual["spec"]["peerASN"]
    family = (f"router bgp {FRR_ASN}", "address-family ipv6 unicast")
    for name in ("frr", "frr6"):
        bed.delete("bgppeer", name)
    for address in addresses(4):
        bed.frr.vtysh("configure terminal", *family, f"neighbor {address} activate")
    try:
        bed.apply(dual)
        bed.wait_paths(bed.frr, V6, of=addresses(4))
        for address, path in bed.paths(bed.frr, V6).items():
            node = next(name for name, (four, _) in NODES.items() if four == address)
            assert path.next_hop == NODES[node][1]
    finally:
        bed.delete("bgppeer", "frr")
        for address in addresses(4):
            bed.frr.vtysh("configure terminal", *family, f"no neighbor {address} activate")
        bed.apply(peer("frr"), peer("frr6"))


def test_a_peer_without_an_address_is_found_at_its_interface(bed: Bed) -> None:
    before = bed.connections()
    spec = {"myASN": NODES_ASN, "peerASN": FRR_ASN, "interface": "direct", **TIMERS}
    with bed.applied(metallb("BGPPeer", "direct", "v1beta2", **spec)):
        bed.frr.wait_established(*(f"to-{name}" for name in BACK_ENDS), timeout=40)

        def hops() -> set[str]:
            found = bed.frr.learned(4).get(V4, [])
            return {path.next_hop for path in found if path.next_hop.startswith("fe80:")}

        bed.wait("two IPv4 routes have a link-local next hop", lambda: len(hops()) == 2, seen=hops)
        bed.wait_metric('metallb_bgp_session_up{peer="direct",vrf="default"} 1.0')
        assert 'clarion_bgp_neighbor_known_bool{interface="direct"} 1.0' in bed.metrics(NATIVE)
    bed.wait_default()
    assert bed.connections() == before


def test_bfd_comes_up_with_the_profiles_intervals_and_goes_with_it(bed: Bed) -> None:
    """A changed profile changes the live session, and neither resets BGP."""

    def profile(transmit: int) -> dict[str, Any]:
        intervals: dict[str, Any] = {"transmitInterval": transmit, "receiveInterval": 200}
        return metallb("BFDProfile", "fast", detectMultiplier=5, **intervals)

    def seen() -> dict[str, tuple[str, int, int]]:
        return {
            each["peer"]: (
                each["status"],
                each.get("remote-transmit-interval", 0),
                each.get("remote-detect-multiplier", 0),
            )
            for each in bed.frr.bfd_peers()
            if each["peer"] in addresses(4)
        }

    def wait_bfd(transmit: int) -> None:
        wanted = dict.fromkeys(addresses(4), ("up", transmit, 5))
        bed.wait(f"BFD is up with {transmit} ms", lambda: seen() == wanted, seen=seen)

    with bed.applied(profile(200), peer("frr", bfdProfile="fast")):
        wait_bfd(200)
        bed.wait_metric('metallb_bfd_session_up{peer="192.0.2.1",vrf="default"} 1.0')
        before = bed.connections()
        bed.apply(profile(250))
        wait_bfd(250)
        assert bed.connections() == before
    bed.wait_default()
    bed.wait(
        "the driven FRR has forgotten the profile",
        lambda: "profile fast" not in bed.own.vtysh("show running-config"),
    )


def test_graceful_restart_is_agreed_on_with_the_next_session(bed: Bed) -> None:
    """What becomes of routes and traffic then has tests of its own."""
    before = bed.connections()

    def wait_announced(wanted: bool) -> None:
        """Begin sessions anew until the nodes announce it or no more: until they read the object.

        A driven FRR begins by itself. As a mere helper it has the capability without a family.
        """

        def restartable(neighbor: dict[str, Any]) -> Collection[str]:
            found = neighbor["neighborCapabilities"].get("addressFamiliesByPeer", {})
            return found if isinstance(found, dict) else ()

        def announced() -> bool:
            record = bed.frr.query("show bgp neighbors json")
            nodes = {address: record[address] for address in addresses(4)}
            up = all(each["bgpState"] == "Established" for each in nodes.values())
            others = [
                address
                for address, each in nodes.items()
                if up and ("ipv4Unicast" in restartable(each)) is not wanted
            ]
            for address in others:
                bed.frr.vtysh(f"clear bgp {address}")
            return up and not others

        bed.wait(f"restart is announced: {wanted}", announced, seen=lambda: states(bed.frr))

    with bed.applied(peer("frr", enableGracefulRestart=True)):
        wait_announced(True)
        bed.wait_default()
    wait_announced(False)
    bed.wait_default()
    others = {key: each for key, each in bed.connections().items() if key[0] != "frr"}
    assert others.items() <= before.items()


def test_another_asn_is_shown_to_one_peer(bed: Bed) -> None:
    """It stands alone in the path: nobody behind that peer sees ours."""
    before = bed.connections("openbgpd")
    bed.openbgpd.configure(openbgpd_config(nodes_asn=64777))
    try:
        with bed.applied(peer("openbgpd", localASN=64777)):
            bed.wait_paths(bed.openbgpd, V4, of=addresses(4))
            paths = bed.paths(bed.openbgpd, V4).values()
            assert {path.as_path for path in paths} == {(64777,)}
    finally:
        bed.openbgpd.configure(openbgpd_config())
    bed.wait_default()
    assert bed.connections("openbgpd") == before


def test_traffic_is_shared_by_the_endpoints_of_each_node(bed: Bed) -> None:
    """The router's kernel does it: three to one, and live when that changes."""
    before = bed.connections()
    four = {name: address for name, (address, _) in NODES.items()}
    weighed = advertisement()
    weighed["metadata"]["annotations"] = {LINK_BANDWIDTH: "endpoints"}

    def policy(name: str) -> None:
        bed.api.kubectl(
            "patch", "service", "web", "-p", f'{{"spec":{{"externalTrafficPolicy":"{name}"}}}}'
        )

    def weights() -> dict[str, int]:
        found = bed.frr.namespace.ip_json("-4", "route", "show", V4)
        hops = [hop for route in found for hop in route.get("nexthops", [])]
        return {hop["gateway"]: hop["weight"] for hop in hops}

    def wait_ratio(native: int, driven: int) -> None:
        bed.apply(endpoints("IPv4", *[NATIVE] * native, *[DRIVEN] * driven))

        def divided() -> bool:
            found = weights()
            return (
                set(found) == set(four.values())
                and found[four[NATIVE]] * driven == found[four[DRIVEN]] * native
            )

        bed.wait(f"traffic is shared {native} to {driven}", divided, seen=weights)

    policy("Local")
    try:
        with bed.applied(weighed):
            wait_ratio(3, 1)
            wait_ratio(1, 2)
    finally:
        policy("Cluster")
        bed.apply(endpoints("IPv4", NATIVE))
    bed.wait_default()
    assert bed.connections() == before


def test_a_cordoned_node_is_the_last_choice(bed: Bed) -> None:
    before = bed.connections()
    for back_end, other in ((NATIVE, DRIVEN), (DRIVEN, NATIVE)):
        (leaving,), (staying,) = addresses(4, back_end), addresses(4, other)
        bed.api.kubectl("cordon", back_end)
        try:

            def shed(goes: str = leaving, stays: str = staying) -> bool:
                outside, inside = bed.paths(bed.frr, V4), bed.paths(bed.bird, V4)
                return (
                    {address for address, path in outside.items() if path.best} == {stays}
                    and all("65535:0" in paths[goes].communities for paths in (outside, inside))
                    and (inside[goes].local_pref, inside[stays].local_pref) == (0, 150)
                )

            bed.wait(f"routers prefer {other}", shed, seen=lambda: bed.paths(bed.frr, V4))
        finally:
            bed.api.kubectl("uncordon", back_end)
        bed.wait_default()
    assert bed.connections() == before


def test_restarted_routers_have_all_routes_again(bed: Bed) -> None:
    for router in bed.routers.values():
        router.restart(hard=True)
    bed.wait_default()


def test_restarted_speakers_bring_the_same_routes(bed: Bed) -> None:
    for back_end in BACK_ENDS:
        speaker = bed.nodes[back_end].speaker
        assert speaker is not None
        assert speaker.stop() == 0
        bed.start_speaker(back_end)
    bed.wait_default()
    assert set(PEERS) == {each["metadata"]["name"] for each in bed.api.items("bgppeers", "-A")}
