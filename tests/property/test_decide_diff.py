"""Differences of plans: none to itself, enough to get from one to the other, and symmetric."""

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clarion.decide.diff import CLASSES, PlanDiff, diff
from clarion.decide.explain import explain
from clarion.decide.narrow import plan_for
from clarion.decide.observed import Observed, Program, Report
from clarion.decide.plan import Plan
from clarion.decide.planner import Planner, plan
from clarion.decide.reasontree import EVERYTHING, Focus
from clarion.decide.snapshot import Snapshot
from clarion.testing import builders as b

SETTINGS = settings(
    derandomize=True,
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
NAMES, NODES = ("a", "b", "c"), ("n1", "n2", "n3")


def one_of(*items: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(items)


OBJECTS = st.one_of(
    st.builds(
        b.service,
        one_of(*NAMES),
        families=one_of((4,), (4,), (6,), (4, 6)),
        ips=one_of("", "", "192.0.2.1", "192.0.2.3"),
        share=one_of(None, None, "k"),
        ports=one_of((80,), (81,)),
        labels=one_of("", "tier=web"),
        local=st.booleans(),
        ingress=one_of((), ("192.0.2.0",), ("192.0.2.2",)),
        type=one_of("LoadBalancer", "LoadBalancer", "ClusterIP"),
    ),
    st.builds(
        b.pool,
        one_of("p", "q"),
        one_of("192.0.2.0/31", "192.0.2.0/30", "198.51.100.0/32", "bad"),
        one_of("2001:db8::/126", "2001:db8::4/127"),
    ),
    st.builds(
        b.l2_advertisement,
        one_of("l1", "l2"),
        nodes=one_of((), ("zone=east",)),
        services=one_of((), ("tier=web",)),
        interfaces=one_of((), ("eth0",), ("eth1",)),
        prefer=one_of({}, {"zone=east": 1}),
    ),
    st.builds(
        b.bgp_advertisement,
        one_of("b1", "b2"),
        nodes=one_of((), ("zone=east",)),
        peers=one_of((), ("r1",)),
        length=one_of(32, 31),
        local_pref=one_of(0, 100),
        communities=one_of((), ("no-export",)),
    ),
    st.builds(
        b.peer,
        one_of("r1", "r2"),
        one_of("198.51.100.1", "198.51.100.2"),
        nodes=one_of((), ("zone=east",)),
        peer_asn=one_of(64500, 64501),
        hold_time=one_of(None, "90s", "30s"),
        password=one_of("", "x", "***"),
        vrf=one_of("", "", "red"),
    ),
    st.builds(
        b.node,
        one_of(*NODES),
        one_of("", "zone=east"),
        ready=one_of(None, False),
        excluded=one_of(False, False, True),
    ),
    st.builds(lambda name, nodes: b.endpoints(name, *nodes), one_of(*NAMES), one_of((), NODES[:2])),
)
WORLD: tuple[Any, ...] = (
    b.pool("p", "192.0.2.0/30", "2001:db8::/126"),
    b.l2_advertisement("l1"),
    b.bgp_advertisement("b1"),
    b.peer("r1"),
    b.peer("r2", "198.51.100.2"),
    *(b.node(name, "zone=east" if name == "n1" else "") for name in NODES),
    *(b.endpoints(name, *NODES) for name in NAMES),
    *(b.service(name, ports=(80 + index,)) for index, name in enumerate(NAMES)),
)


def made(edits: list[Any], speakers: tuple[str, ...] | None) -> Plan:
    objects = {(type(obj), obj.name): obj for obj in (*WORLD, *edits)}
    interfaces = {"n1": ["eth0"], "n2": ["eth1"]}
    return plan(Snapshot.from_objects(objects.values(), speakers=speakers, interfaces=interfaces))


SPEAKERS = one_of(None, None, ("n1",), ("n1", "n2"))
PLANS = st.builds(made, st.lists(OBJECTS, max_size=8), SPEAKERS)


def routes(of: Plan) -> dict[tuple[str, str, Any], Any]:
    return {
        (peer.peer, node.node, item.route.prefix): item.route
        for node in of.nodes.values()
        for peer in node.peers.values()
        for item in peer.routes
    }


def owners(of: Plan) -> dict[Any, set[str]]:
    found: dict[Any, set[str]] = {}
    for item in of.services.values():
        for address in item.addresses if item.l2.announced else ():
            found.setdefault(address, set()).add(item.l2.owner)
    return found


def sessions(of: Plan) -> set[tuple[str, str]]:
    return {
        (peer.peer, node.node)
        for node in of.nodes.values()
        for peer in node.peers.values()
        if node.speaks and not peer.refused
    }


@SETTINGS
@given(PLANS)
def test_a_plan_does_not_differ_from_itself(one: Plan) -> None:
    found = diff(one, one)
    assert found == PlanDiff(unchanged=found.unchanged)
    assert found.counts == {}
    assert found.unchanged.routes == len(routes(one))
    assert found.unchanged.sessions == len(sessions(one))


@SETTINGS
@given(PLANS, PLANS)
def test_the_difference_leads_from_one_plan_to_the_other(one: Plan, two: Plan) -> None:
    found = diff(one, two)
    table = routes(one)
    for item in found.routes:
        for node in item.nodes:
            key = item.peer, node, item.prefix
            assert table.pop(key, None) == item.before
            if item.after:
                table[key] = item.after
    assert table == routes(two)

    held = {(key, address) for key, plan_ in one.services.items() for address in plan_.addresses}
    for change in found.addresses:
        held.discard((change.service, change.before))
        if change.after:
            held.add((change.service, change.after))
    assert held == {
        (key, address) for key, plan_ in two.services.items() for address in plan_.addresses
    }

    answering = owners(one)
    for owner in found.owners:
        assert answering.pop(owner.address, set()) == set(owner.before)
        if owner.after:
            answering[owner.address] = set(owner.after)
    assert answering == owners(two)

    running = sessions(one)
    for session in found.sessions:
        pairs = {(session.peer, node) for node in session.nodes}
        if session.change == "session-added":
            assert not pairs & running
            running |= pairs
        else:
            assert pairs <= running
            running -= pairs if session.change == "session-removed" else set()
    assert running == sessions(two)
    assert {problem.problem.order for problem in found.problems} == {
        problem.order for problem in one.problems
    } ^ {problem.order for problem in two.problems}


OPPOSITE = {
    "lost": "gained",
    "owner-lost": "owner-gained",
    "session-removed": "session-added",
    "withdrawn": "announced",
    "pool-removed": "pool-added",
    "problem-new": "problem-solved",
}
OPPOSITE |= {value: key for key, value in OPPOSITE.items()}


def sides(found: PlanDiff, *, turned: bool) -> set[tuple[Any, ...]]:
    """The changes without their reasons, one per node, seen from the other side if turned."""
    lines = set()
    for item in found.changes():
        name = OPPOSITE.get(item.change, item.change) if turned else item.change
        values = [str(getattr(item, field, "")) for field in ("before", "after")]
        what = [
            str(getattr(item, field, ""))
            for field in ("service", "address", "peer", "prefix", "pool", "problem")
        ]
        for node in getattr(item, "nodes", ("",)):
            lines.add((name, *what, node, *(reversed(values) if turned else values)))
    return lines


@SETTINGS
@given(PLANS, PLANS)
def test_the_difference_of_the_reverse_is_the_reverse_of_the_difference(
    one: Plan, two: Plan
) -> None:
    assert sides(diff(one, two), turned=True) == sides(diff(two, one), turned=False)


@SETTINGS
@given(PLANS, PLANS)
def test_every_change_is_classified_and_has_its_reasons(one: Plan, two: Plan) -> None:
    found = diff(one, two)
    assert set(found.counts) <= set(CLASSES)
    for item in found.changes():
        reasons = getattr(item, "reasons", None)
        if reasons is not None:
            assert reasons, item
            assert all("{" not in why.text for why in reasons)


OBSERVED = st.builds(
    Observed,
    controller=one_of(
        None,
        Program(holder="c", age=1.0, duration=15.0),
        Program(holder="c", age=60.0, duration=15.0),
    ),
    sessions=st.dictionaries(
        one_of(*NODES),
        st.dictionaries(one_of("r1", "r2"), one_of("Established", "Active"), max_size=2),
    ),
    reports=st.dictionaries(
        one_of("default/a", "default/b"),
        st.builds(
            Report,
            answering=one_of((), ("n1",), ("n1", "n3")),
            telling=st.dictionaries(one_of(*NODES), one_of(("r1",), ("r1", "r2"))),
        ),
    ),
)


@SETTINGS
@given(st.lists(OBJECTS, max_size=8), SPEAKERS, OBSERVED, st.booleans())
def test_an_answer_from_a_part_of_the_plan_is_that_of_the_whole(
    edits: list[Any], speakers: tuple[str, ...] | None, observed: Observed, running: bool
) -> None:
    planner = Planner()
    for obj in WORLD:
        planner.put(obj)
    planner.refresh()
    objects = {(type(obj), obj.name): obj for obj in (*WORLD, *edits)}
    snapshot = msgspec.structs.replace(
        Snapshot.from_objects(objects.values(), speakers=speakers),
        observed=observed,
        in_force=planner.config if running else None,
    )
    whole = plan(snapshot)
    addresses = {str(address) for item in whole.services.values() for address in item.addresses}
    questions = [
        *(("service", str(key)) for key in whole.services),
        *(("address", text) for text in addresses),
        *(("node", name) for name in NODES),
        *(("peer", name) for name in (*(peer.name for peer in snapshot.peers), "nobody")),
        *(("pool", name) for name in (*(pool.name for pool in snapshot.pools), "none")),
        ("service", "nobody"),
        ("address", "192.0.2.3"),
        ("address", "203.0.113.9"),
    ]
    for kind, name in questions:
        part = plan_for(snapshot, kind, name)
        for focus in (EVERYTHING, Focus(node="n1")):
            assert explain(part, kind, name, focus) == explain(whole, kind, name, focus)
