"""What the native speaker's routes are at FRR, BIRD, GoBGP and OpenBGPD."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import pytest

from clarion.lab.process import wait_until
from clarion.lab.routers import Bird, Frr, Neighbor, Openbgpd, Router
from clarion.proto.bgp.config import SessionStatus, State

from .bgp_bed import (
    BOTH,
    KINDS,
    OUR_ASN,
    SERVICE4,
    SERVICE6,
    THEIR_ASN,
    US4,
    US6,
    Configured,
    Routers,
    Speaker,
    many,
    neighbor,
    peer,
    router_config,
    service,
    wait_received,
    wait_service,
)
from .conftest import Segment

pytestmark = pytest.mark.lab

SECOND = 21
SECOND4, SECOND6 = f"192.0.2.{SECOND}", f"2001:db8:1::{SECOND:x}"
GRACEFUL_SHUTDOWN = 65535 << 16


@pytest.fixture
def second(segment: Segment) -> Iterator[Speaker]:
    """Another speaker, on another node."""
    running = Speaker(segment.host("speaker2", SECOND))
    yield running
    running.stop()


def both_nodes() -> tuple[Neighbor, Neighbor]:
    return neighbor(), Neighbor(address=SECOND4, remote_as=OUR_ASN, families=BOTH)


def test_ten_thousand_prefixes_of_each_family_in_few_messages(
    speaker: Speaker, routers: Routers
) -> None:
    running = routers(neighbor(hold_time=60, keepalive=20))
    speaker.peers(*(peer(kind, hold_time=60.0) for kind in KINDS))
    speaker.wait_established()
    speaker.routes(KINDS, [*many(10_000), *many(10_000, 6)])
    for router in running.values():
        wait_received(router, 20_000)
    # 810 /32 or 238 /128 a message: 13 and 43 UPDATEs, and an End-of-RIB for each family. FRR takes
    # messages of 65,535 octets (RFC 8654): 1 and 3 of them.
    messages = {**dict.fromkeys(KINDS, 58), "frr": 6}
    assert {name: each.sent.updates for name, each in speaker.status.items()} == messages
    assert {n for n, each in speaker.status.items() if each.extended_messages} == {"frr"}
    assert running["frr"].neighbors()[US4].raw["messageStats"]["updatesRecv"] == 6
    # One more: one message each.
    speaker.routes(KINDS, [*many(10_001), *many(10_000, 6)])
    for router in running.values():
        wait_received(router, 20_001)
    assert running["frr"].neighbors()[US4].raw["messageStats"]["updatesRecv"] == 7
    speaker.routes(KINDS, [])
    for router in running.values():
        wait_received(router, 0)


def test_a_router_that_asks_again_gets_the_routes_again(speaker: Speaker, routers: Routers) -> None:
    """GoBGP is not asked: it keeps what was announced to it, and sends no ROUTE-REFRESH."""
    asking = ("frr", "bird", "openbgpd")
    running = routers(neighbor(), kinds=asking)
    speaker.peers(*(peer(kind) for kind in asking))
    speaker.routes(asking, service())
    speaker.wait_established()
    for router in running.values():
        wait_service(router)
    before = {name: each.sent.updates for name, each in speaker.status.items()}
    frr, bird, openbgpd = running.values()
    assert isinstance(frr, Frr)
    assert isinstance(bird, Bird)
    assert isinstance(openbgpd, Openbgpd)
    for family in BOTH:
        frr.vtysh(f"clear bgp {family} unicast {US4} in")
    bird.birdc("reload in n0")
    openbgpd.bgpctl("neighbor", US4, "refresh")

    def answered(status: dict[str, SessionStatus]) -> bool:
        """Each has asked for both families, and both were sent once more."""
        return all(
            each.received.route_refreshes == 2 and each.sent.updates >= before[name] + 2
            for name, each in status.items()
        )

    speaker.wait("refreshes answered", answered)
    for router in running.values():
        wait_service(router)
        assert router.neighbors()[US4].established


def test_extended_communities_arrive_and_non_transitive_ones_where_they_are_taken(
    speaker: Speaker, routers: Routers
) -> None:
    """OpenBGPD drops the link bandwidth of an external neighbour: it is non-transitive."""
    running = routers(neighbor())
    speaker.peers(*(peer(kind) for kind in KINDS))
    targets = (0x0002_FC00_0000_0005, 0x0003_FC00_0000_0007, 0x0202_0001_0000_0009)
    speaker.routes(KINDS, service(extended_communities=targets, link_bandwidth=375_000.0))
    for kind, router in running.items():
        for version, prefix in ((4, SERVICE4), (6, SERVICE6)):
            (path,) = router.wait_routes(version, {prefix})[prefix]
            wanted = {"rt:64512:5", "soo:64512:7", "rt:65536:9"}
            if kind != "openbgpd":
                wanted.add(f"lb:{OUR_ASN}:375000")
            assert set(path.extended_communities) == wanted, kind


def weights(router: Router, prefix: str) -> dict[str, int]:
    """Gateways and weights of a route in the router's kernel."""
    family = "-6" if ":" in prefix else "-4"
    # A full-length prefix is shown as a bare address.
    found: list[dict[str, Any]] = router.namespace.ip_json(family, "route", "show", prefix)
    return {hop["gateway"]: hop["weight"] for route in found for hop in route.get("nexthops", [])}


def test_the_kernel_of_frr_divides_by_the_weights_of_the_nodes(
    speaker: Speaker, second: Speaker, configured: Configured
) -> None:
    """Three endpoints here and one there: three times the traffic; and live when that changes."""
    frr = configured("frr", router_config("frr", *both_nodes()))

    def share(ours: int, theirs: int) -> None:
        for running, endpoints in ((speaker, ours), (second, theirs)):
            running.routes(["frr"], service(link_bandwidth=125_000.0 * endpoints))

    def wait_ratio(ours: int, theirs: int) -> None:
        for prefix, here, there in ((SERVICE4, US4, SECOND4), (SERVICE6, US6, SECOND6)):

            def divided(prefix: str = prefix, here: str = here, there: str = there) -> bool:
                found = weights(frr, prefix)
                return set(found) == {here, there} and found[here] * theirs == found[there] * ours

            what = f"{prefix} is divided {ours} to {theirs}"
            wait_until(divided, 20, what, seen=partial(weights, frr, prefix))

    for running in (speaker, second):
        running.peers(peer("frr"))
    share(3, 1)
    wait_ratio(3, 1)
    counts = frr.neighbors()[US4].raw["connectionsEstablished"]
    share(1, 4)
    wait_ratio(1, 4)
    assert frr.neighbors()[US4].raw["connectionsEstablished"] == counts


def test_a_node_that_is_about_to_leave_is_preferred_less_before_it_goes(
    speaker: Speaker, second: Speaker, routers: Routers, configured: Configured
) -> None:
    """RFC 8326: FRR acts on the community by itself, OpenBGPD by the rule of its sample."""
    running = routers(*both_nodes())
    rule = "match from ebgp community GRACEFUL_SHUTDOWN set localpref 0"
    config = router_config("openbgpd", *both_nodes())
    running["openbgpd"] = configured("openbgpd", msgspec.structs.replace(config, extra=(rule,)))
    for node in (speaker, second):
        node.peers(*(peer(kind) for kind in KINDS))
        node.routes(KINDS, service())
    for node in (speaker, second):
        node.wait_established()

    def best(router: Router, version: int) -> list[str]:
        """Whose path is best, once both are there."""
        paths = router.learned(version).get(SERVICE4 if version == 4 else SERVICE6, [])
        return [path.peer for path in paths if path.best] if len(paths) == 2 else []

    def left(router: Router, version: int) -> bool:
        """Both have their path, one marked; who acts on the mark prefers the other."""
        (paths,) = router.learned(version).values()
        marks = {path.peer: path.communities for path in paths}
        acts = isinstance(router, (Frr, Openbgpd))
        return marks == {goes: ("65535:0",), stays: ()} and (
            not acts or best(router, version) == [stays]
        )

    for version in (4, 6):
        for router in running.values():
            wait_until(partial(best, router, version), 20, f"{router.name} has two paths")
    leaving = speaker if best(running["frr"], 4) == [US4] else second
    goes, stays = (US4, SECOND4) if leaving is speaker else (SECOND4, US4)
    leaving.routes(KINDS, service(communities=(GRACEFUL_SHUTDOWN,)))
    for version in (4, 6):
        for router in running.values():
            wait_until(partial(left, router, version), 20, f"{router.name}: {goes} is marked")
    assert {each.established_count for each in leaving.status.values()} == {1}


def test_a_router_that_wants_a_policy_takes_nothing_and_says_so(
    speaker: Speaker, configured: Configured
) -> None:
    """The session is up and our side is well; what the user finds out, the router must tell."""
    kinds = ("frr", "openbgpd")
    running = {
        kind: configured(
            kind,
            msgspec.structs.replace(router_config(kind, neighbor()), ebgp_requires_policy=True),
        )
        for kind in kinds
    }
    speaker.peers(*(peer(kind) for kind in kinds))
    speaker.routes(kinds, service())
    speaker.wait_established()
    speaker.wait("all is sent", lambda s: all(s[kind].prefixes_pending == 0 for kind in kinds))
    frr = running["frr"]
    assert isinstance(frr, Frr)
    wait_until(lambda: "(Policy)" in frr.vtysh("show bgp summary"), 10, "FRR says (Policy)")
    families = frr.neighbors()[US4].raw["addressFamilyInfo"]
    assert families["ipv4Unicast"]["inboundEbgpRequiresPolicy"] == (
        "Inbound updates discarded due to missing policy"
    )
    wait_received(running["openbgpd"], 2)
    for router in running.values():
        assert router.learned(4) == router.learned(6) == {}
    for each in speaker.status.values():
        assert (each.state, each.prefixes_announced) == (State.ESTABLISHED, 2)
    # Once there is a policy, FRR asks again, and all is there in the same session.
    allow = "route-map ALL permit 10"
    for family in BOTH:
        words = (f"router bgp {THEIR_ASN}", f"address-family {family} unicast")
        frr.vtysh("configure terminal", allow, *words, f"neighbor {US4} route-map ALL in")
    wait_service(frr)
    assert speaker.status["frr"].established_count == 1
