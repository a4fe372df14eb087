"""What running speakers report, beside what was decided: the states of their BGP sessions.

A decision says which node is to tell a peer what; whether the session is up is a fact of the
network. An answer about a live API shows both, so that nobody takes the one for the other.
"""

from collections.abc import Iterable, Mapping

import msgspec

from clarion.decide.explain import Focus, ReasonTree
from clarion.decide.plan import Plan
from clarion.model.meta import ObjectKey

UP = "Established"
Sessions = Mapping[str, Mapping[str, str]]
"""Node -> peer -> state of the session, from the nodes' Leases."""


def with_sessions(
    tree: ReasonTree, plan: Plan, sessions: Sessions, kind: str, name: str, focus: Focus
) -> ReasonTree:
    """An answer with the sessions that it depends on; as it is where there are none."""
    found = _by_state(plan, sessions, kind, name, focus)
    if not found:
        return tree
    lines = tuple(_line(peer, state, nodes) for (peer, state), nodes in sorted(found.items()))
    down = [line for line in lines if line.status == "no"]
    group = ReasonTree("sessions, as the speakers report them", "no" if down else "yes", lines)
    whole = "no" if kind == "peer" and len(down) == len(lines) else tree.status
    return msgspec.structs.replace(tree, status=whole, children=(*tree.children, group))


def _by_state(
    plan: Plan, sessions: Sessions, kind: str, name: str, focus: Focus
) -> dict[tuple[str, str], list[str]]:
    """Peer and state -> nodes, of the sessions that matter to a question."""
    nodes = _nodes(plan, kind, name)
    found: dict[tuple[str, str], list[str]] = {}
    for node, states in sorted(sessions.items()):
        if node not in nodes or not focus.on(node):
            continue
        for peer, state in states.items():
            if (kind != "peer" or peer == name) and focus.to(peer):
                found.setdefault((peer, state), []).append(node)
    return found


def _nodes(plan: Plan, kind: str, name: str) -> frozenset[str]:
    """Nodes that take part in what was asked about."""
    if kind == "node":
        return frozenset((name,))
    if kind == "service":
        namespace, _, service = name.rpartition("/")
        item = plan.services.get(ObjectKey(namespace or "default", service))
        return frozenset(item.bgp.nodes) if item else frozenset()
    return frozenset(plan.nodes) if kind == "peer" else frozenset()


def _line(peer: str, state: str, nodes: Iterable[str]) -> ReasonTree:
    where = ", ".join(nodes)
    if state == UP:
        return ReasonTree(f"{peer}: up on {where}", "yes")
    return ReasonTree(
        f"{peer}: {state} on {where}, so nothing of this is heard there",
        "no",
        remedy="look at the speaker's log there and at the router; compare ASNs and password",
    )
