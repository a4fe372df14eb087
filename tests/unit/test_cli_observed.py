"""Answers about a live API show which sessions are up, and do not take a decision for a fact."""

from clarion.cli.observed import Sessions, with_sessions
from clarion.decide.explain import Focus, ReasonTree, explain
from clarion.decide.planner import plan
from clarion.decide.snapshot import Snapshot
from clarion.testing import builders as b

UP: Sessions = {"n1": {"router": "Established"}, "n2": {"router": "Established"}}
HALF: Sessions = {"n1": {"router": "Established"}, "n2": {"router": "Active"}}
DOWN: Sessions = {"n1": {"router": "Active"}, "n2": {"router": "Active"}}


def ask(kind: str, name: str, sessions: Sessions, focus: Focus | None = None) -> ReasonTree:
    objects = [b.node("n1"), b.node("n2"), b.peer("router"), b.pool("p"), b.bgp_advertisement("ad")]
    made = plan(Snapshot.from_objects([*objects, b.service("a"), b.endpoints("a", "n1")]))
    focus = focus or Focus()
    return with_sessions(explain(made, kind, name, focus), made, sessions, kind, name, focus)


def lines(tree: ReasonTree) -> list[str]:
    last = tree.children[-1]
    assert last.label == "sessions, as the speakers report them"
    return [f"{child.status} {child.label}" for child in last.children]


def test_a_peer_that_nobody_reaches_is_no_good_news() -> None:
    assert ask("peer", "router", UP).status == "yes"
    assert lines(ask("peer", "router", UP)) == ["yes router: up on n1, n2"]
    down = ask("peer", "router", DOWN)
    assert down.status == "no"
    assert lines(down)[0].startswith("no router: Active on n1, n2")
    assert down.children[-1].children[0].remedy


def test_each_state_is_a_line() -> None:
    assert [text.split(",")[0] for text in lines(ask("peer", "router", HALF))] == [
        "no router: Active on n2",
        "yes router: up on n1",
    ]
    assert lines(ask("peer", "router", HALF, Focus(node="n1"))) == ["yes router: up on n1"]
    assert "Active" in lines(ask("service", "default/a", HALF))[0]
    assert lines(ask("node", "n1", HALF)) == ["yes router: up on n1"]


def test_without_sessions_the_answer_is_the_decision() -> None:
    assert ask("peer", "router", {}) == ask("peer", "router", {"n9": {"router": "Active"}})
    assert "sessions" not in str(ask("pool", "p", UP).children[-1:])
