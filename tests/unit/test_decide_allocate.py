"""Allocation rules, one line per case: pools, services in order of age, and what each gets.

`192.0.2.0` means the address, `-` nothing, `-code` nothing for that reason.
"""
# ruff: noqa: E501 - a case is one line of a table, however long

from typing import Any

import msgspec
import pytest

from clarion.base.addr import parse_address
from clarion.decide.allocate import Outcome, converge
from clarion.decide.config import build_config
from clarion.decide.ledger import Ledger
from clarion.decide.planner import Planner
from clarion.decide.snapshot import Options, Snapshot
from clarion.model.core import LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus
from clarion.model.meta import ObjectKey
from clarion.testing import builders as b

V4 = b.pool("p", "192.0.2.0/31")
V6 = b.pool("p", "2001:db8::/127")
DUAL = b.pool("p", "192.0.2.0/31", "2001:db8::/127")
WEB = ObjectKey("default", "web")
ONE = b.pool("p", "192.0.2.0/32")
PREFER: dict[str, Any] = {"families": (4, 6), "policy": "PreferDualStack"}
REQUIRE: dict[str, Any] = {"families": (4, 6), "policy": "RequireDualStack"}


def s(**wishes: Any) -> dict[str, Any]:
    return wishes


CASES: list[tuple[str, list[Any], list[dict[str, Any]], str]] = [
    # Order of addresses and pools.
    ("lowest address first, the network address included", [V4], [s(), s()], "192.0.2.0 192.0.2.1"),
    ("ranges in declared order", [b.pool("p", "192.0.2.9/32", "192.0.2.0/32")], [s(), s()], "192.0.2.9 192.0.2.0"),
    ("pools of one kind by name", [b.pool("b", "192.0.2.1/32"), b.pool("a", "192.0.2.2/32")], [s(), s()], "192.0.2.2 192.0.2.1"),
    ("exhausted", [ONE], [s(), s()], "192.0.2.0 -pool-exhausted"),
    ("no pool at all", [], [s()], "-no-pools"),
    ("avoidBuggyIPs", [b.pool("p", "192.0.2.255-192.0.3.1", avoid_buggy=True)], [s(), s()], "192.0.3.1 -pool-exhausted"),
    ("avoidBuggyIPs, asked for", [b.pool("p", "192.0.2.0/31", avoid_buggy=True)], [s(ips="192.0.2.0")], "-address-buggy"),
    ("avoidBuggyIPs does not touch IPv6", [b.pool("p", "2001:db8::/127", avoid_buggy=True)], [s(families=(6,))], "2001:db8::"),
    # Reserved addresses.
    ("reserved addresses are passed over", [b.pool("p", "192.0.2.0/30", reserved="192.0.2.0, 192.0.2.2/32")], [s(), s(), s()], "192.0.2.1 192.0.2.3 -pool-exhausted-but-reserved"),
    ("a reserved range", [b.pool("p", "192.0.2.0/30", reserved="192.0.2.0-192.0.2.2")], [s()], "192.0.2.3"),
    ("a reserved address, asked for", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0")], [s(ips="192.0.2.0"), s()], "192.0.2.0 192.0.2.1"),
    ("a pool all reserved", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0/31")], [s()], "-pool-exhausted-but-reserved"),
    ("a pool by name gives no reserved address either", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0/31")], [s(pool="p")], "-pool-exhausted-but-reserved"),
    ("all reserved: the next pool", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0/31"), b.pool("q", "192.0.2.8/32")], [s()], "192.0.2.8"),
    ("a reserved address in the status stays", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0/31")], [s(ingress=("192.0.2.1",))], "192.0.2.1"),
    ("a reserved address is not joined without asking", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0")], [s(share="k", ips="192.0.2.0"), s(share="k", ports=[81])], "192.0.2.0 192.0.2.1"),
    ("a reserved address is joined on request", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0")], [s(share="k", ips="192.0.2.0"), s(share="k", ports=[81], ips="192.0.2.0")], "192.0.2.0 192.0.2.0"),
    ("reserved and to be avoided", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0", avoid_buggy=True)], [s(ips="192.0.2.0"), s()], "-address-buggy 192.0.2.1"),
    ("reserved in one family", [b.pool("p", "192.0.2.0/31", "2001:db8::/127", reserved="2001:db8::")], [s(**REQUIRE)], "192.0.2.0+2001:db8::1"),
    # autoAssign and requests.
    ("autoAssign off", [b.pool("p", "192.0.2.0/31", auto=False)], [s()], "-pool-not-automatic"),
    ("autoAssign off, asked for by name", [b.pool("p", "192.0.2.0/31", auto=False)], [s(pool="p")], "192.0.2.0"),
    ("autoAssign off, asked for by address", [b.pool("p", "192.0.2.0/31", auto=False)], [s(ips="192.0.2.1")], "192.0.2.1"),
    ("pool by name", [ONE, b.pool("q", "192.0.2.8/32")], [s(pool="q")], "192.0.2.8"),
    ("unknown pool", [ONE], [s(pool="nowhere")], "-pool-unknown"),
    ("pool by name, exhausted: no other pool is tried", [ONE, b.pool("q", "192.0.2.8/32")], [s(pool="q"), s(pool="q")], "192.0.2.8 -pool-exhausted"),
    ("pool by name lacks the family", [V4], [s(pool="p", families=(6,))], "-pool-without-family"),
    ("pool by deprecated name", [ONE, b.pool("q", "192.0.2.8/32")], [s(annotations={"metallb.universe.tf/address-pool": "q"})], "192.0.2.8"),
    ("an empty new annotation hides the old one", [ONE, b.pool("q", "192.0.2.8/32")], [s(annotations={"metallb.io/address-pool": "", "metallb.universe.tf/address-pool": "q"})], "192.0.2.0"),
    ("address asked for", [V4], [s(ips="192.0.2.1"), s()], "192.0.2.1 192.0.2.0"),
    ("address asked for by field", [V4], [s(load_balancer_ip="192.0.2.1")], "192.0.2.1"),
    ("address asked for by deprecated annotation", [V4], [s(annotations={"metallb.universe.tf/loadBalancerIPs": "192.0.2.1"})], "192.0.2.1"),
    ("annotation and field", [V4], [s(ips="192.0.2.1", load_balancer_ip="192.0.2.1")], "-request-twice"),
    ("not an address", [V4], [s(ips="web")], "-request-invalid"),
    ("address in no pool", [V4], [s(ips="198.51.100.1")], "-address-in-no-pool"),
    ("address of another pool than asked for", [ONE, b.pool("q", "192.0.2.8/32")], [s(ips="192.0.2.0", pool="q")], "-pool-other-asked-for"),
    ("address held", [V4], [s(ips="192.0.2.1"), s(ips="192.0.2.1")], "192.0.2.1 -address-held"),
    ("v6 address for a v4 service", [DUAL], [s(ips="2001:db8::1")], "-request-family"),
    ("two addresses of one family", [V4], [s(ips="192.0.2.0,192.0.2.1")], "-request-family"),
    # Dual stack.
    ("v6 service", [DUAL], [s(families=(6,))], "2001:db8::"),
    ("the pool that is full is the reason, not one that never serves the family", [b.pool("a", "2001:db8::/127"), b.pool("b", "192.0.2.0/32")], [s(), s()], "192.0.2.0 -pool-exhausted"),
    ("v4 pool, v6 service", [V4], [s(families=(6,))], "-pool-without-family"),
    ("require: both, v4 first", [DUAL], [s(**REQUIRE)], "192.0.2.0+2001:db8::"),
    ("require: v4 alone will not do", [V4], [s(**REQUIRE)], "-pool-without-family"),
    ("require: never from two pools", [b.pool("p", "192.0.2.0/31"), b.pool("q", "2001:db8::/127")], [s(**REQUIRE)], "-pool-without-family"),
    ("require with one cluster IP", [DUAL], [s(policy="RequireDualStack")], "-not-enough-cluster-ips"),
    ("no policy on a dual cluster IP: as require", [V4], [s(families=(4, 6))], "-pool-without-family"),
    ("prefer: both", [DUAL], [s(**PREFER)], "192.0.2.0+2001:db8::"),
    ("prefer: v4 will do", [V4], [s(**PREFER)], "192.0.2.0"),
    ("prefer: v6 will do", [V6], [s(**PREFER)], "2001:db8::"),
    ("prefer: a pool with both beats an earlier pool with one", [b.pool("a", "198.51.100.0/31"), DUAL], [s(**PREFER)], "192.0.2.0+2001:db8::"),
    ("prefer: the primary family decides between pools with one", [b.pool("a", "192.0.2.0/31"), b.pool("b", "2001:db8::/127")], [s(families=(6, 4), policy="PreferDualStack")], "2001:db8::"),
    ("prefer on one cluster IP: one address, for good", [DUAL], [s(policy="PreferDualStack")], "192.0.2.0"),
    ("prefer, both asked for", [DUAL], [s(ips="2001:db8::1,192.0.2.1", **PREFER)], "2001:db8::1+192.0.2.1"),
    ("prefer, one asked for: no relief", [DUAL], [s(ips="192.0.2.1", **PREFER)], "-request-family"),
    ("both asked for, of two pools", [b.pool("p", "192.0.2.0/31"), b.pool("q", "2001:db8::/127")], [s(ips="192.0.2.0,2001:db8::", **PREFER)], "-addresses-of-two-pools"),
    # serviceAllocation.
    ("reserved pool first, general pool as fallback", [b.pool("a", "192.0.2.0/32"), b.pool("z", "192.0.2.8/32", namespaces=["default"])], [s(), s()], "192.0.2.8 192.0.2.0"),
    ("reserved for another namespace", [b.pool("p", "192.0.2.0/31", namespaces=["prod"])], [s()], "-pool-for-other-namespaces"),
    ("reserved for other labels", [b.pool("p", "192.0.2.0/31", service_selectors=["tier=web"])], [s(labels="tier=db")], "-pool-for-other-services"),
    ("reserved for these labels", [b.pool("p", "192.0.2.0/31", service_selectors=["tier=web", "tier=db"])], [s(labels="tier=db")], "192.0.2.0"),
    ("namespace and labels must both fit", [b.pool("p", "192.0.2.0/31", namespaces=["default"], service_selectors=["tier=web"])], [s(labels="tier=db"), s(labels="tier=web")], "-pool-for-other-services 192.0.2.0"),
    ("reservation holds against a request by name", [b.pool("p", "192.0.2.0/31", namespaces=["prod"])], [s(pool="p")], "-pool-for-other-namespaces"),
    ("reservation holds against a request by address", [b.pool("p", "192.0.2.0/31", namespaces=["prod"])], [s(ips="192.0.2.0")], "-pool-for-other-namespaces"),
    ("lower priority number first, 0 last", [b.pool("a", "192.0.2.0/32", priority=0), b.pool("b", "192.0.2.1/32", priority=9), b.pool("c", "192.0.2.2/32", priority=3)], [s(), s(), s()], "192.0.2.2 192.0.2.1 192.0.2.0"),
    ("namespace selectors that match nothing admit nobody", [b.pool("p", "192.0.2.0/31", namespace_selectors=["a=b"])], [s(pool="p")], "-pool-for-other-namespaces"),
    ("a negative priority comes before a positive one", [b.pool("a", "192.0.2.0/32", priority=1), b.pool("b", "192.0.2.1/32", priority=-1)], [s(), s()], "192.0.2.1 192.0.2.0"),
    ("reserved pools of equal priority by name", [b.pool("b", "192.0.2.0/32", priority=7), b.pool("a", "192.0.2.1/32", priority=7)], [s(), s()], "192.0.2.1 192.0.2.0"),
    ("namespaces by name or by selector", [b.namespace("other", "a=b"), b.pool("p", "192.0.2.0/31", namespaces=["default"], namespace_selectors=["a=b"])], [s(), s(name="other/s1")], "192.0.2.0 192.0.2.1"),
    ("a reserved pool that is full falls back on a general one", [b.pool("p", "192.0.2.0/32", namespaces=["default"]), b.pool("q", "192.0.2.8/32")], [s(), s()], "192.0.2.0 192.0.2.8"),
    ("a reserved pool with autoAssign off is not tried", [b.pool("p", "192.0.2.0/32", namespaces=["default"], auto=False), b.pool("q", "192.0.2.8/32")], [s()], "192.0.2.8"),
    ("namespace by selector", [b.namespace("default", "a=b"), b.pool("p", "192.0.2.0/31", namespace_selectors=["a=b"])], [s()], "192.0.2.0"),
    ("an empty serviceAllocation only sets the priority", [b.pool("p", "192.0.2.0/31", priority=1)], [s()], "192.0.2.0"),
    # Sharing.
    ("equal keys, other ports", [ONE], [s(share="k"), s(share="k", ports=[81])], "192.0.2.0 192.0.2.0"),
    ("tcp/53 and udp/53", [ONE], [s(share="k", ports=[53]), s(share="k", ports=["udp/53"])], "192.0.2.0 192.0.2.0"),
    ("equal keys, equal ports", [ONE], [s(share="k"), s(share="k")], "192.0.2.0 -pool-exhausted"),
    ("a port of several is taken", [ONE], [s(share="k", ports=[80, 81]), s(share="k", ports=[81, 82], ips="192.0.2.0")], "192.0.2.0 -sharing-port-taken"),
    ("other keys", [ONE], [s(share="k"), s(share="z", ports=[81], ips="192.0.2.0")], "192.0.2.0 -sharing-key-differs"),
    ("an empty key does not share", [ONE], [s(share=""), s(share="", ports=[81], ips="192.0.2.0")], "192.0.2.0 -address-held"),
    ("only one shares", [ONE], [s(), s(share="k", ports=[81], ips="192.0.2.0")], "192.0.2.0 -address-held"),
    ("the lower address wins, shared or free", [V4], [s(ips="192.0.2.1", share="k"), s(share="k", ports=[81])], "192.0.2.1 192.0.2.0"),
    ("joining the lower address rather than a free one", [V4], [s(share="k"), s(share="k", ports=[81])], "192.0.2.0 192.0.2.0"),
    ("sharing across namespaces", [ONE], [s(share="k"), s(share="k", ports=[81], name="other/s1")], "192.0.2.0 192.0.2.0"),
    ("Local with equal selectors", [ONE], [s(share="k", local=True, selector={"a": "b"}), s(share="k", ports=[81], local=True, selector={"a": "b"})], "192.0.2.0 192.0.2.0"),
    ("Local with other selectors", [ONE], [s(share="k", local=True, selector={"a": "b"}), s(share="k", ports=[81], local=True, selector={"a": "c"}, ips="192.0.2.0")], "192.0.2.0 -sharing-backend-differs"),
    ("Local and Cluster", [ONE], [s(share="k", local=True, selector={"a": "b"}), s(share="k", ports=[81], ips="192.0.2.0")], "192.0.2.0 -sharing-backend-differs"),
    ("Local without selector and Cluster", [ONE], [s(share="k", local=True), s(share="k", ports=[81])], "192.0.2.0 192.0.2.0"),
    ("three on one, the last elsewhere", [V4], [s(share="k", ports=[1]), s(share="k", ports=[2]), s(share="k", ports=[2])], "192.0.2.0 192.0.2.0 192.0.2.1"),
    # Services that get nothing.
    ("not a load balancer", [V4], [s(type="NodePort")], "-not-load-balancer"),
    ("another class", [V4], [s(load_balancer_class="other.example/lb")], "-class-not-ours"),
    ("no cluster IP", [V4], [s(cluster_ips=())], "-no-cluster-ip"),
    ("headless", [V4], [s(cluster_ips=("None",))], "-no-cluster-ip"),
    ("cluster IPs of one family", [V4], [s(cluster_ips=("10.0.0.1", "10.0.0.2"))], "-cluster-ips-invalid"),
    # What the status says is kept.
    ("address in the status", [V4], [s(ingress=("192.0.2.1",)), s(), s()], "192.0.2.1 192.0.2.0 -pool-exhausted"),
    ("the older holder of an address wins", [V4], [s(ingress=("192.0.2.1",)), s(ingress=("192.0.2.1",))], "192.0.2.1 192.0.2.0"),
    ("who holds comes before who waits", [ONE], [s(), s(ingress=("192.0.2.0",))], "-pool-exhausted 192.0.2.0"),
    ("address in the status of a pool with autoAssign off", [b.pool("p", "192.0.2.0/31", auto=False)], [s(ingress=("192.0.2.1",))], "192.0.2.1"),
    ("address in the status and in no pool", [V4], [s(ingress=("198.51.100.1",))], "192.0.2.0"),
    ("address in the status of a pool that avoids it", [b.pool("p", "192.0.2.0/31", avoid_buggy=True)], [s(ingress=("192.0.2.0",))], "192.0.2.1"),
    ("address in the status of a pool that is not for it", [b.pool("p", "192.0.2.0/32", namespaces=["prod"]), b.pool("q", "192.0.2.8/32")], [s(ingress=("192.0.2.0",))], "192.0.2.8"),
    ("address in the status of another pool than asked for", [V4, b.pool("q", "192.0.2.8/32")], [s(ingress=("192.0.2.0",), pool="q")], "192.0.2.8"),
    ("another address asked for than in the status", [V4], [s(ingress=("192.0.2.0",), ips="192.0.2.1")], "192.0.2.1"),
    ("an unreadable request takes nothing away", [V4], [s(ingress=("192.0.2.1",), ips="web")], "192.0.2.1"),
    ("garbage in the status", [V4], [s(ingress=("web",))], "192.0.2.0"),
    ("two of one family in the status", [V4], [s(ingress=("192.0.2.0", "192.0.2.1"))], "192.0.2.0"),
    ("three in the status", [DUAL], [s(ingress=("192.0.2.0", "192.0.2.1", "2001:db8::"))], "192.0.2.0"),
    ("a duplicate in the status", [V4], [s(ingress=("192.0.2.1", "192.0.2.1"))], "192.0.2.0"),
    ("the same two addresses asked for in another order", [DUAL], [s(ingress=("192.0.2.0", "2001:db8::1"), ips="2001:db8::1,192.0.2.0", **REQUIRE)], "192.0.2.0+2001:db8::1"),
    ("v4 in the status of a v6 service", [DUAL], [s(families=(6,), ingress=("192.0.2.0",))], "2001:db8::"),
    ("both in the status of a v4 service", [DUAL], [s(ingress=("192.0.2.0", "2001:db8::"), policy="PreferDualStack")], "192.0.2.0"),
    ("one in the status of a service that prefers two", [DUAL], [s(ingress=("2001:db8::1",), **PREFER)], "192.0.2.0+2001:db8::1"),
    ("one in the status, and the other family is exhausted", [b.pool("p", "192.0.2.0/32", "2001:db8::/127")], [s(), s(ingress=("2001:db8::1",), created=1, **PREFER)], "192.0.2.0 2001:db8::1"),
    ("the order in the status is kept", [DUAL], [s(ingress=("2001:db8::1", "192.0.2.1"), **REQUIRE)], "2001:db8::1+192.0.2.1"),
]  # fmt: skip


def decided(objects: list[Any], wishes: list[dict[str, Any]]) -> list[Outcome]:
    planner = Planner()
    for obj in objects:
        planner.put(obj)
    services = [
        b.service(**{"name": f"s{i}", "created": i, **wish}) for i, wish in enumerate(wishes)
    ]
    for service in services:
        planner.put(service)
    planner.refresh()
    outcomes = [planner.outcome(service.key) for service in services]
    return [outcome for outcome in outcomes if outcome]


def text_of(outcome: Outcome) -> str:
    """The addresses, or the reason that stands for all: the last one."""
    if outcome.addresses:
        return "+".join(map(str, outcome.addresses))
    return f"-{outcome.reasons[-1].code}"


@pytest.mark.parametrize(
    ("label", "objects", "wishes", "expected"), CASES, ids=[row[0] for row in CASES]
)
def test_allocation(
    label: str, objects: list[Any], wishes: list[dict[str, Any]], expected: str
) -> None:
    outcomes = decided(objects, wishes)
    texts = expected.split()
    assert [text_of(outcome) for outcome in outcomes] == texts
    for outcome in outcomes:
        assert outcome.reasons
        assert all(item.text and "{" not in item.text for item in outcome.reasons)


def ledger_of(*objects: Any) -> Ledger:
    return Ledger(build_config(Snapshot.from_objects(objects)).config)


EVENTS: list[tuple[str, list[Any], dict[str, Any], list[str]]] = [
    ("assigned", [V4], s(), ["Normal IPAllocated"]),
    ("kept", [V4], s(ingress=("192.0.2.0",)), []),
    ("exhausted", [V6], s(), ["Warning AllocationFailed"]),
    ("address lost", [V4], s(ingress=("198.51.100.1",)), ["Normal ClearAssignment", "Normal IPAllocated"]),
    ("all pools are gone", [], s(ingress=("192.0.2.0",)), ["Normal ClearAssignment", "Warning AllocationFailed"]),
    ("unreadable request", [V4], s(ips="web"), ["Warning LoadBalancerFailed"]),
    ("unreadable status", [V4], s(ingress=("web",)), ["Warning nolbIPsIPFamily", "Normal IPAllocated"]),
    ("bad cluster IPs", [V4], s(cluster_ips=("10.0.0.1", "10.0.0.2")), ["Warning noclusterIPsIPFamily"]),
    ("one cluster IP of two", [V4], s(policy="RequireDualStack"), ["Warning not enough clusterips"]),
    ("no cluster IP", [V4], s(cluster_ips=()), []),
    ("second family added", [DUAL], s(ingress=("192.0.2.0",), **PREFER), ["Normal IPAllocated"]),
    ("second family missing", [V4], s(ingress=("192.0.2.0",), **PREFER), ["Normal AdditionalAssignFailed"]),
    ("deprecated annotations", [V4], s(annotations={"metallb.universe.tf/address-pool": "p", "metallb.universe.tf/allow-shared-ip": "k"}), ["Normal IPAllocated", "Warning deprecatedAnnotation", "Warning deprecatedAnnotation"]),
    ("deprecated annotation, nothing changed", [V4], s(ingress=("192.0.2.0",), annotations={"metallb.universe.tf/address-pool": "p"}), []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "objects", "wish", "expected"), EVENTS, ids=[row[0] for row in EVENTS]
)
def test_events(label: str, objects: list[Any], wish: dict[str, Any], expected: list[str]) -> None:
    outcome = converge(ledger_of(*objects), b.service(**wish))
    assert [f"{note.type} {note.reason}" for note in outcome.events] == expected


def test_what_a_service_is_given_is_told_even_if_it_goes_on_waiting_for_more() -> None:
    planner = Planner()
    for obj in (b.pool("p", "192.0.2.0/31", "2001:db8::/128"), b.service("old", **REQUIRE)):
        planner.put(obj)
    planner.refresh()
    planner.put(b.service("new", created=1, **PREFER))
    (told,) = planner.refresh().outcomes
    assert (told.action, [note.reason for note in told.events]) == ("assign", ["IPAllocated"])
    assert (told.reasons[0].code, told.reasons[-1].code) == (
        "address-assigned",
        "second-family-missing",
    )
    # The status is written, and comes back: now it is told what is missing.
    planner.put(b.service("new", created=1, ingress=("192.0.2.1",), **PREFER))
    (told,) = planner.refresh().outcomes
    assert [note.reason for note in told.events] == ["AdditionalAssignFailed"]


def test_event_reasons_are_those_that_metallb_users_watch_for() -> None:
    # MetalLB has InternalError too, for states that cannot arise here.
    assert {text for _, _, _, events in EVENTS for text in events} == {
        "Normal IPAllocated",
        "Normal ClearAssignment",
        "Normal AdditionalAssignFailed",
        "Warning AllocationFailed",
        "Warning LoadBalancerFailed",
        "Warning nolbIPsIPFamily",
        "Warning noclusterIPsIPFamily",
        "Warning not enough clusterips",
        "Warning deprecatedAnnotation",
    }


@pytest.mark.parametrize(
    ("lb_class", "wanted", "action"),
    [
        ("", None, "assign"),
        ("", "other", "ignore"),
        ("ours", None, "ignore"),
        ("ours", "ours", "assign"),
        ("ours", "other", "ignore"),
    ],
)
def test_classes(lb_class: str, wanted: str | None, action: str) -> None:
    service = b.service(load_balancer_class=wanted)
    assert converge(ledger_of(V4), service, Options(lb_class=lb_class)).action == action


def test_a_service_that_leaves_its_class_gives_its_address_back() -> None:
    ledger, options = ledger_of(ONE), Options(lb_class="ours")
    assert converge(ledger, b.service(load_balancer_class="ours"), options).addresses
    gone = converge(ledger, b.service(type="ClusterIP"), options)
    assert (gone.action, gone.addresses) == ("clear", ())
    assert ledger.usage("p").available(4) == 1


def test_a_change_of_type_clears_what_we_wrote_and_only_that() -> None:
    ledger = ledger_of(ONE)
    ours = {"metallb.io/ip-allocated-from-pool": "p"}
    assert converge(ledger, b.service(type="NodePort", annotations=ours)).action == "clear"
    assert converge(ledger, b.service(type="NodePort")).action == "ignore"


def test_an_ingress_with_a_host_name_only_is_no_address() -> None:
    named = LoadBalancerStatus(ingress=(LoadBalancerIngress(hostname="web.example"),))
    service = msgspec.structs.replace(b.service(), status=ServiceStatus(load_balancer=named))
    outcome = converge(ledger_of(V4), service)
    assert (outcome.action, text_of(outcome)) == ("assign", "192.0.2.0")


# What a service with 192.0.2.0 of pool p becomes -> what it has then.
SERVICE_CHANGES: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("its labels leave the selector", [b.pool("p", "192.0.2.0/31", service_selectors=["a=b"]), b.pool("q", "192.0.2.8/32")], s(labels="a=c"), "192.0.2.8"),
    ("it loses its cluster IP", [V4], s(cluster_ips=()), "-no-cluster-ip"),
    ("it becomes headless", [V4], s(cluster_ips=("None",)), "-no-cluster-ip"),
    ("it asks for another address", [V4], s(ips="192.0.2.1"), "192.0.2.1"),
    ("it asks for an address that it cannot have", [V4], s(ips="198.51.100.1"), "-address-in-no-pool"),
    ("it asks for another pool", [V4, b.pool("q", "192.0.2.8/32")], s(pool="q"), "192.0.2.8"),
    ("it asks for a pool that does not exist", [V4], s(pool="nowhere"), "-pool-unknown"),
    ("it asks for the pool that it has", [V4], s(pool="p"), "192.0.2.0"),
    ("it becomes IPv6", [DUAL], s(families=(6,)), "2001:db8::"),
    ("it wants both families", [DUAL], s(**REQUIRE), "192.0.2.0+2001:db8::"),
    ("it prefers both families", [DUAL], s(**PREFER), "192.0.2.0+2001:db8::"),
    ("its ports change", [V4], s(ports=[443]), "192.0.2.0"),
    ("its traffic policy changes", [V4], s(local=True, selector={"a": "b"}), "192.0.2.0"),
    ("its request becomes unreadable", [V4], s(ips="web"), "192.0.2.0"),
    ("its class becomes another", [V4], s(load_balancer_class="other.example/lb"), "-class-not-ours"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "pools", "wish", "expected"), SERVICE_CHANGES, ids=[row[0] for row in SERVICE_CHANGES]
)
def test_service_changes(label: str, pools: list[Any], wish: dict[str, Any], expected: str) -> None:
    planner = Planner()
    for obj in (*pools, b.service("web", labels="a=b")):
        planner.put(obj)
    planner.refresh()
    assert addresses(planner, "web") == ["192.0.2.0"]
    planner.put(b.service("web", **{"labels": "a=b", **wish}))
    planner.refresh()
    outcome = planner.outcome(WEB)
    assert outcome
    assert text_of(outcome) == expected


def test_the_ledger_counts_while_our_write_is_not_seen_yet() -> None:
    ledger = ledger_of(V4)
    first = converge(ledger, b.service(ips="192.0.2.1"))
    stale = converge(ledger, b.service(ips="192.0.2.1", labels="seen=later"))
    assert first.addresses == stale.addresses
    assert stale.action == "keep"


def test_a_sole_user_may_change_its_key_and_a_sharer_moves() -> None:
    ledger = ledger_of(V4)
    assert str(converge(ledger, b.service("a", share="k")).addresses[0]) == "192.0.2.0"
    assert converge(ledger, b.service("a", share="z")).action == "keep"
    assert converge(ledger, b.service("b", share="z", ports=[81])).addresses == (
        parse_address("192.0.2.0"),
    )
    moved = converge(ledger, b.service("a", share="other"))
    assert [note.reason for note in moved.events] == ["ClearAssignment", "IPAllocated"]
    assert str(moved.addresses[0]) == "192.0.2.1"


def waiting_planner() -> Planner:
    planner = Planner()
    for obj in (ONE, b.service("old", created=1), b.service("new", created=2)):
        planner.put(obj)
    planner.refresh()
    return planner


def addresses(planner: Planner, name: str) -> list[str]:
    outcome = planner.outcome(ObjectKey("default", name))
    return [str(address) for address in outcome.addresses] if outcome else []


def test_who_waits_is_served_when_the_holder_goes() -> None:
    planner = waiting_planner()
    assert addresses(planner, "new") == []
    planner.remove(Service, ObjectKey("default", "old"))
    changes = planner.refresh()
    assert addresses(planner, "new") == ["192.0.2.0"]
    assert [str(item.service) for item in changes.outcomes] == ["default/new"]


def test_who_waits_is_served_when_the_pool_grows_or_opens() -> None:
    planner = waiting_planner()
    planner.put(b.pool("p", "192.0.2.0/31"))
    planner.refresh()
    assert addresses(planner, "new") == ["192.0.2.1"]
    planner.put(b.service("third", created=3))
    planner.put(b.pool("q", "192.0.2.8/32", auto=False))
    planner.refresh()
    assert addresses(planner, "third") == []
    planner.put(b.pool("q", "192.0.2.8/32"))
    planner.refresh()
    assert addresses(planner, "third") == ["192.0.2.8"]


def test_of_two_who_wait_the_older_is_served() -> None:
    planner = waiting_planner()
    planner.put(b.service("eldest", created=0))
    planner.refresh()
    planner.remove(Service, ObjectKey("default", "old"))
    planner.refresh()
    assert addresses(planner, "eldest") == ["192.0.2.0"]
    assert addresses(planner, "new") == []


def test_who_waits_comes_before_a_younger_newcomer() -> None:
    planner = waiting_planner()
    planner.put(b.service("eldest", created=0))
    planner.refresh()
    planner.remove(Service, ObjectKey("default", "old"))
    planner.put(b.service("youngest", created=9))
    planner.refresh()
    assert addresses(planner, "eldest") == ["192.0.2.0"]
    assert addresses(planner, "youngest") == []


def test_a_status_that_is_not_followed_does_not_keep_the_planner_busy() -> None:
    # What is asked for cannot be had, and the status goes on holding what may not be kept.
    planner = Planner()
    planner.put(b.pool("p", "192.0.2.0/31", "2001:db8::/127"))
    planner.put(b.service("web", ips="192.0.2.0,2001:db8::", ingress=("192.0.2.0",)))
    planner.put(b.service("other", created=1))
    planner.refresh()
    epoch = planner.ledger.epoch
    planner.put(b.service("other", created=1, labels="a=b"))
    planner.refresh()
    assert planner.ledger.epoch == epoch
    assert addresses(planner, "web") == []
    assert addresses(planner, "other") == ["192.0.2.0"]


def test_a_decision_that_did_not_change_is_not_told_again() -> None:
    planner = Planner()
    planner.put(V4)
    planner.put(b.service("web", ingress=("192.0.2.0",), **PREFER))
    (outcome,) = planner.refresh().outcomes
    assert [note.reason for note in outcome.events] == ["AdditionalAssignFailed"]
    planner.put(b.service("web", ingress=("192.0.2.0",), labels="a=b", **PREFER))
    assert planner.refresh().outcomes == ()


def test_the_reason_of_who_waits_follows_what_others_take() -> None:
    planner = Planner()
    planner.put(b.pool("p", "192.0.2.0/32", "2001:db8::/128"))
    planner.put(b.service("six", families=(6,), created=0))
    planner.put(b.service("both", created=1, **REQUIRE))
    planner.put(b.service("four", created=2))
    planner.refresh()
    outcome = planner.outcome(ObjectKey("default", "both"))
    assert outcome
    assert [item.facts["family"] for item in outcome.reasons] == [6, 4]


def test_a_port_that_was_given_back_can_be_shared_again() -> None:
    ledger = ledger_of(V4)
    for name, port in (("a", 80), ("b", 81)):
        assert str(converge(ledger, b.service(name, share="k", ports=[port])).addresses[0])
    ledger.release(ObjectKey("default", "a"))
    again = converge(ledger, b.service("c", share="k", ports=[80]))
    assert [str(address) for address in again.addresses] == ["192.0.2.0"]


def test_a_service_that_prefers_two_families_gets_the_second_when_it_comes_free() -> None:
    planner = Planner()
    pool = b.pool("p", "192.0.2.0/32", "2001:db8::/127")
    prefers = b.service("both", created=2, **PREFER)
    for obj in (pool, b.service("four", created=1), prefers):
        planner.put(obj)
    planner.refresh()
    assert addresses(planner, "both") == ["2001:db8::"]
    planner.remove(Service, ObjectKey("default", "four"))
    planner.refresh()
    assert addresses(planner, "both") == ["192.0.2.0", "2001:db8::"]


def test_a_pool_that_cannot_be_read_at_the_start_costs_nobody_an_address() -> None:
    planner = Planner()
    for obj in (b.pool("p", "192.0.2.0/33"), b.service("web", ingress=("192.0.2.1",))):
        planner.put(obj)
    planner.put(b.service("new", created=1))
    planner.refresh()
    outcome = planner.outcome(WEB)
    assert outcome
    assert (outcome.action, outcome.reasons[0].code) == ("ignore", "address-of-lost-pool")
    planner.put(V4)
    planner.refresh()
    assert addresses(planner, "web") == ["192.0.2.1"]
    assert addresses(planner, "new") == ["192.0.2.0"]


def test_an_address_of_a_lost_pool_is_taken_when_the_pool_is_deleted() -> None:
    planner = Planner()
    broken = b.pool("p", "192.0.2.0/33")
    for obj in (broken, b.service("web", ingress=("192.0.2.1",))):
        planner.put(obj)
    planner.refresh()
    planner.remove(type(broken), broken.key)
    (outcome,) = planner.refresh().outcomes
    assert (outcome.action, outcome.ingress) == ("pending", ())


def test_a_namespace_that_loses_its_label_loses_the_pool() -> None:
    planner = Planner()
    pool = b.pool("p", "192.0.2.0/31", namespace_selectors=["a=b"])
    for obj in (pool, b.namespace("default", "a=b"), b.service("web")):
        planner.put(obj)
    planner.refresh()
    assert addresses(planner, "web") == ["192.0.2.0"]
    planner.put(b.namespace("default"))
    planner.refresh()
    assert addresses(planner, "web") == []


POOL_CHANGES: list[tuple[str, list[Any], str, str]] = [
    ("shrunk", [b.pool("p", "192.0.2.0/32")], "192.0.2.1", "192.0.2.0"),
    ("deleted", [], "192.0.2.1", "-"),
    ("renamed: the address stays", [b.pool("q", "192.0.2.0/31")], "192.0.2.1", "192.0.2.1"),
    ("split: the address stays", [b.pool("q", "192.0.2.0/32"), b.pool("r", "192.0.2.1/32")], "192.0.2.1", "192.0.2.1"),
    ("autoAssign off: the address stays", [b.pool("p", "192.0.2.0/31", auto=False)], "192.0.2.1", "192.0.2.1"),
    ("avoidBuggyIPs on", [b.pool("p", "192.0.2.0/31", avoid_buggy=True)], "192.0.2.0", "192.0.2.1"),
    ("the address is reserved: it stays", [b.pool("p", "192.0.2.0/31", reserved="192.0.2.0/31")], "192.0.2.1", "192.0.2.1"),
    ("reserved for others", [b.pool("p", "192.0.2.0/31", namespaces=["prod"])], "192.0.2.0", "-"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "pools", "before", "after"), POOL_CHANGES, ids=[row[0] for row in POOL_CHANGES]
)
def test_pool_changes(label: str, pools: list[Any], before: str, after: str) -> None:
    planner = Planner()
    planner.put(V4)
    planner.put(b.service("web", ingress=(before,)))
    planner.refresh()
    assert addresses(planner, "web") == [before]
    planner.remove(type(V4), V4.key)
    for pool in pools:
        planner.put(pool)
    planner.refresh()
    assert addresses(planner, "web") == ([] if after == "-" else [after])
    outcome = planner.outcome(ObjectKey("default", "web"))
    if outcome and outcome.addresses:
        home = planner.ledger.pool_of(outcome.addresses[0])
        assert home
        assert outcome.pool == home.name


USAGE: list[tuple[str, Any, tuple[int, int]]] = [
    ("a /28", b.pool("p", "192.0.2.0/28"), (16, 0)),
    ("both families", b.pool("p", "192.0.2.0/31", "2001:db8::/124"), (2, 16)),
    ("a /24 without .0 and .255", b.pool("p", "192.0.2.0/24", avoid_buggy=True), (254, 0)),
    ("a /25 without .0", b.pool("p", "192.0.2.0/25", avoid_buggy=True), (127, 0)),
    ("a /16 without .0 and .255", b.pool("p", "10.1.0.0/16", avoid_buggy=True), (65536 - 512, 0)),
    ("reserved addresses are free until somebody asks", b.pool("p", "192.0.2.0/28", reserved="192.0.2.0/30"), (16, 0)),
    ("two huge prefixes do not overflow", b.pool("p", "2001:db8::/64", "2001:db8:1::/48"), (0, 2**63 - 1)),
]  # fmt: skip


@pytest.mark.parametrize(("label", "pool", "expected"), USAGE, ids=[row[0] for row in USAGE])
def test_pool_status(label: str, pool: Any, expected: tuple[int, int]) -> None:
    status = ledger_of(pool).usage("p").status()
    assert (status.available_ipv4, status.available_ipv6) == expected
    assert (status.assigned_ipv4, status.assigned_ipv6) == (0, 0)


def test_a_shared_address_counts_once() -> None:
    ledger = ledger_of(V4)
    for name, port in (("a", 1), ("b", 2)):
        converge(ledger, b.service(name, share="k", ports=[port]))
    assert ledger.usage("p").assigned == {4: 1, 6: 0}
    assert len(ledger.services_on(parse_address("192.0.2.0"))) == 2
