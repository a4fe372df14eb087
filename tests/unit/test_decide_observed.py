"""Answers tell what is decided, what is written, what runs; and take none for another."""
# ruff: noqa: E501 - a case is one line of a table, however long

from typing import Any

import msgspec
import pytest

from clarion.base.limits import LEASE_CLOCK_SKEW_SECONDS
from clarion.decide.config import build_config
from clarion.decide.explain import explain
from clarion.decide.nodes import Nodes
from clarion.decide.observed import Observed, Program, Report
from clarion.decide.plan import judged_anew
from clarion.decide.planner import Planner, plan
from clarion.decide.reasontree import EVERYTHING, Focus, ReasonTree
from clarion.decide.settings import Config
from clarion.decide.snapshot import Options, Snapshot
from clarion.testing import builders as b

UP = {"n1": {"r": "Established"}, "n2": {"r": "Established"}}
HALF = {"n1": {"r": "Established"}, "n2": {"r": "Active"}}
DOWN = {"n1": {"r": "Active"}, "n2": {"r": "Active"}}
WORLD: list[Any] = [
    b.node("n1"),
    b.node("n2"),
    b.pool("p"),
    b.peer("r"),
    b.bgp_advertisement("ad"),
    b.endpoints("a", "n1"),
]
HAS = b.service("a", ingress=("192.0.2.0",))
ASKS = b.service("a")


def ask(
    question: str,
    objects: list[Any],
    observed: Observed | None = None,
    focus: Focus = EVERYTHING,
    options: Options | None = None,
    in_force: Config | None = None,
) -> ReasonTree:
    snapshot = msgspec.structs.replace(
        Snapshot.from_objects(objects, options),
        observed=observed or Observed(),
        in_force=in_force,
    )
    kind, name = question.split()
    return explain(plan(snapshot), kind, name, focus)


def lines(tree: ReasonTree, depth: int = 0) -> list[str]:
    below = [text for child in tree.children for text in lines(child, depth + 1)]
    return [f"{tree.status} {tree.label}", *below]


def told(tree: ReasonTree) -> list[str]:
    """The lines about sessions."""
    return [text for text in lines(tree) if text.split()[1] == "r:"]


def test_a_peer_that_nobody_reaches_is_no_good_news() -> None:
    good = ask("peer r", [*WORLD, HAS], Observed(sessions=UP))
    assert good.status == "yes"
    assert told(good) == ["yes r: up on n1, n2"]
    bad = ask("peer r", [*WORLD, HAS], Observed(sessions=DOWN))
    assert bad.status == "no"
    assert told(bad) == ["no r: Active on n1, n2, so nothing of this is heard there"]


def test_each_state_is_a_line_and_the_focus_counts() -> None:
    half = Observed(sessions=HALF)
    up, down = "yes r: up on n1", "no r: Active on n2, so nothing of this is heard there"
    assert told(ask("peer r", [*WORLD, HAS], half)) == [down, up]
    assert told(ask("peer r", [*WORLD, HAS], half, Focus(node="n1"))) == [up]
    assert told(ask("service a", [*WORLD, HAS], half)) == [down, up]
    assert told(ask("node n1", [*WORLD, HAS], half)) == [up]
    assert told(ask("pool p", [*WORLD, HAS], half)) == []


def test_a_service_that_nobody_can_hear_of_is_not_announced() -> None:
    tree = ask("service a", [*WORLD, HAS], Observed(sessions=DOWN))
    assert tree.status == "no"
    assert "no BGP: to be announced by n1, n2, but no session is up" in lines(tree)
    assert ask("service a", [*WORLD, HAS], Observed(sessions=HALF)).status == "yes"


def test_sessions_of_others_are_none_of_it() -> None:
    stranger = Observed(sessions={"n9": {"r": "Active"}})
    assert ask("peer r", [*WORLD, HAS], stranger) == ask("peer r", [*WORLD, HAS])


# What is decided, and what is written.

LIVES = Program(holder="one", age=3.0, duration=15.0)
SILENT = Program(holder="one", age=90.0, duration=15.0)
LEFT = Program(holder="", age=2.0, duration=15.0)
GETS = "192.0.2.0 of pool p"
# What its status holds, who gives addresses -> the line about addresses, and the whole answer.
WRITTEN: list[tuple[str, Any, Program | None, str, str]] = [
    ("it has it", HAS, LIVES, f"yes has {GETS}", "yes"),
    ("it has it, and nobody lives", HAS, SILENT, f"yes has {GETS}", "yes"),
    ("not yet", ASKS, LIVES, f"note is about to get {GETS}: the controller has not written it yet", "note"),
    ("who knows by whom", ASKS, None, f"note is about to get {GETS}: the controller has not written it yet", "note"),
    ("nobody writes it", ASKS, SILENT, f"no would get {GETS}", "note"),
    ("nobody writes it now", ASKS, LEFT, f"no would get {GETS}", "note"),
    ("another one first", b.service("a", ingress=("198.51.100.9",)), LIVES, f"note is about to get {GETS}: the controller has not written it yet", "note"),
    ("none, but still there", b.service("a", pool="q", ingress=("198.51.100.9",)), LIVES, "no no address", "no"),
    ("not ours", b.service("a", load_balancer_class="x", ingress=("198.51.100.9",)), LIVES, "note has 198.51.100.9, which Clarion leaves alone", "no"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("service", "controller", "line", "status"),
    [row[1:] for row in WRITTEN],
    ids=[row[0] for row in WRITTEN],
)
def test_what_is_written(service: Any, controller: Program | None, line: str, status: str) -> None:
    tree = ask("service a", [*WORLD, service], Observed(controller=controller))
    assert lines(tree)[1] == line
    assert tree.status == status
    silent = controller is not None and not controller.lives
    behind = silent and not line.startswith("yes")
    assert any("no controller" in text for text in lines(tree)) == behind
    assert ("yes BGP: announced by n1, n2" in lines(tree)) == (status == "yes")


def test_what_the_status_still_holds_is_said() -> None:
    still = b.service("a", ingress=("198.51.100.9",))
    text = "note its status still holds 198.51.100.9: the controller has not written this yet"
    assert text in lines(ask("service a", [*WORLD, still]))


def test_manifests_are_a_plan_and_say_so() -> None:
    manifests = Options(assume_cluster=True)
    tree = ask("service a", [*WORLD, ASKS], options=manifests)
    assert lines(tree)[1] == f"yes would get {GETS}"
    assert tree.status == "yes"


@pytest.mark.parametrize(
    ("age", "holder", "lives"),
    [
        (0.0, "x", True),
        (4.0 + LEASE_CLOCK_SKEW_SECONDS, "x", True),
        (4.1 + LEASE_CLOCK_SKEW_SECONDS, "x", False),
        (-1.0, "x", True),
        (-60.0, "x", False),
        (None, "x", False),
        (0.0, "", False),
    ],
)
def test_a_program_lives_while_its_lease_does(age: float | None, holder: str, lives: bool) -> None:
    assert Program(holder=holder, age=age, duration=4.0).lives == lives


def test_reports_are_set_against_what_is_decided() -> None:
    objects = [*WORLD, HAS, b.l2_advertisement("l2", nodes=[]), b.endpoints("a", "n1", "n2")]
    report = Report(answering=("n1", "n2"), telling={"n1": ("r",)})
    text = lines(ask("service a", objects, Observed(reports={"default/a": report})))
    owner = plan(Snapshot.from_objects(objects)).services[HAS.key].l2.owner
    other = {"n1": "n2", "n2": "n1"}[owner]
    assert f"yes {owner} reports that it answers" in text
    assert f"no {other} reports that it answers, and is not to" in text
    assert "yes reported by n1: announced to r" in text
    assert "no not reported by n2: announced to anybody" in text


# Objects that have an error.

BROKEN = b.bgp_advertisement("ad", communities=["nonsense"])
FAULTY: list[Any] = [*(obj for obj in WORLD if obj.name != "ad"), HAS, BROKEN]


def test_what_running_programs_do_with_a_broken_object_is_not_known_from_the_api() -> None:
    tree = ask("service a", FAULTY)
    assert tree.status == "no"
    assert any("keeps that in force" in text for text in lines(tree))
    for question in ("peer r", "pool p", "node n1"):
        assert any("BGPAdvertisement metallb-system/ad" in t for t in lines(ask(question, FAULTY)))


def test_a_program_tells_what_it_keeps_in_force() -> None:
    in_force = build_config(Snapshot.from_objects([*WORLD, HAS])).config
    tree = ask("service a", FAULTY, in_force=in_force)
    assert tree.status == "yes"
    assert any("its last valid version is in force" in text for text in lines(tree))


def test_manifests_with_an_error_are_left_out() -> None:
    tree = ask("service a", FAULTY, options=Options(assume_cluster=True))
    assert tree.status == "no"
    assert any(text.endswith("and is left out") for text in lines(tree))


def test_an_object_with_an_error_is_named_only_where_it_matters() -> None:
    other = b.bgp_advertisement("other", pools=["q"], communities=["nonsense"])
    objects = [*WORLD, HAS, other, b.pool("q", "198.51.100.0/30")]
    assert not any("other" in text for text in lines(ask("service a", objects)))
    assert any("other" in text for text in lines(ask("pool q", objects)))


def test_a_snapshot_of_a_program_is_planned_as_the_program_does() -> None:
    planner = Planner(allocate=False)
    for obj in (*WORLD, HAS):
        planner.put(obj)
    planner.refresh()
    planner.put(BROKEN)
    planner.put(b.pool("p", "192.0.2.0/33"))
    planner.refresh()
    stored = msgspec.json.encode(planner.snapshot().redacted())
    again = plan(msgspec.json.decode(stored, type=Snapshot))
    assert again.nodes == planner.plan().nodes
    assert again.nodes["n1"].peers["r"].routes


# Nodes.


def test_a_node_that_is_not_ready_may_announce_by_bgp_only() -> None:
    node = b.node("n1", ready=False)
    tree = ask("node n1", [node, *WORLD[1:], HAS])
    assert tree.status == "no"
    assert lines(tree)[1:3] == ["no layer 2: it is not Ready", "yes it may announce by BGP"]
    excluded = ask("node n1", [b.node("n1", excluded=True), *WORLD[1:], HAS])
    assert not any("may announce" in text for text in lines(excluded))


def test_an_address_in_no_pool_names_pools_that_cannot_be_read() -> None:
    tree = ask("address 203.0.113.9", [b.pool("p", "203.0.113.0/33")])
    assert [child.code for child in tree.children] == ["address-in-no-pool", "object-in-doubt"]


def test_another_owner_of_an_address_touches_its_services_alone() -> None:
    planner = Planner()
    services = [b.service(f"s{number}", created=number) for number in range(4)]
    for obj in (*WORLD, b.l2_advertisement("l2"), *services):
        planner.put(obj)
    planner.refresh()
    before, now = (
        Nodes(planner.config, planner.options, {}, owners)
        for owners in (
            {"192.0.2.1": "n1", "192.0.2.2": "n1"},
            {"192.0.2.1": "n1", "192.0.2.2": "n2"},
        )
    )
    assert judged_anew(before, now, planner.services) == {services[2].key}
    assert judged_anew(before, before, planner.services) == set()
