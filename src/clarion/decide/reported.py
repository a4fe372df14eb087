"""The parts of an answer that tell what running programs report, beside what was decided."""

from collections.abc import Iterable

from clarion.base.duration import format_duration
from clarion.decide.observed import UP, Report
from clarion.decide.plan import Plan, ServicePlan
from clarion.decide.reason_rows import Verdict
from clarion.decide.reasons import reason
from clarion.decide.reasontree import Focus, ReasonTree, group, leaf
from clarion.decide.registry import listed
from clarion.decide.sessions import why_down
from clarion.model.sessions import BGPSessionStatus, SessionEvent, SessionPrefixes

Session = tuple[str, str]
"""Node and peer."""


def controller(plan: Plan) -> Iterable[ReasonTree]:
    """That no controller lives, if that is known."""
    absent = plan.observed.no_controller
    if absent:
        yield leaf(absent)


def not_written(plan: Plan, item: ServicePlan) -> bool:
    """True if a cluster's service does not hold yet what was decided: nothing is announced."""
    decided = item.outcome is not None and item.outcome.action != "ignore"
    return (
        decided
        and not plan.options.assume_cluster
        and tuple(map(str, item.addresses)) != item.written
    )


def sessions_of(plan: Plan, item: ServicePlan, focus: Focus) -> dict[Session, str]:
    """States of the sessions over which a service is to be told."""
    return {
        (node, peer): state
        for (node, peer), state in all_sessions(plan, focus).items()
        if any(plan.config.bgp[ad].goes_to(peer) for ad in item.bgp.nodes.get(node, ()))
    }


def all_sessions(plan: Plan, focus: Focus) -> dict[Session, str]:
    """States of all sessions with these nodes and peers."""
    return {
        (node, peer): state
        for node, states in plan.observed.sessions.items()
        for peer, state in states.items()
        if node in plan.nodes and focus.on(node) and focus.to(peer)
    }


def all_down(states: dict[Session, str]) -> bool:
    """True if sessions are reported and none is up."""
    return bool(states) and UP not in states.values()


def details(plan: Plan, peer: str, focus: Focus) -> Iterable[ReasonTree]:
    """All that is reported of the sessions with a peer, node by node; nothing if nothing is."""
    for node, known in sorted(plan.observed.details.items()):
        if peer in known and node in plan.nodes and focus.on(node):
            yield session_tree(known[peer])


def session_tree(report: BGPSessionStatus) -> ReasonTree:
    """One session: its state, why it is not established, what was agreed, its history."""
    bfd, counts = report.bfd, report.prefixes
    label = f"session of {report.node}: {report.state}"
    label += f" since {report.since}" if report.since else ""
    label += f", BFD {bfd.state}" if bfd else ""
    why = why_down(report)
    lines = [leaf(why)] if why else []
    ends = " to ".join(filter(None, (report.local_address, report.remote_address)))
    if report.remote_asn:
        ends += f", AS {report.remote_asn}"
    if report.hold_time is not None:
        ends += f", hold time {format_duration(report.hold_time / 1000)}"
    told = [ends] if ends else []
    for row in report.families:
        words = f"sent with next hop {row.next_hop}" if row.next_hop else "sent"
        told.append(f"{row.family}: {words if row.sent else f'not sent: {row.reason}'}")
    if offers := report.capabilities:
        told.append(f"in effect: {', '.join(offers.agreed) or 'nothing beyond BGP itself'}")
        lacks = [name for name in offers.ours if name.split()[0] not in _names(offers.peer)]
        told += [f"the peer does not offer: {', '.join(lacks)}"] if lacks and offers.peer else []
    if counts:
        told.append(_counted(counts))
    if bfd:
        told += [f"BFD {bfd.state}: {bfd.diagnostic}"] if bfd.diagnostic else []
        told += _once("BFD was last lost", bfd.last_down)
    told += _once("last NOTIFICATION received", report.notification_received)
    told += _once("last NOTIFICATION sent", report.notification_sent)
    if report.up:
        told += _once("before that", report.last_error)
    if report.flaps:
        told.append(f"lost {report.flaps} times, established {report.established} times")
    status: Verdict = "yes" if report.up else "no"
    return group(label, [*lines, *map(ReasonTree, told)], status)


def _names(offered: Iterable[str]) -> set[str]:
    return {name.split()[0] for name in offered}


def _counted(counts: SessionPrefixes) -> str:
    parts = {
        "announced": counts.announced,
        "pending": counts.pending,
        "refused": counts.refused,
        "received": counts.received,
    }
    text = ", ".join(f"{value} {name}" for name, value in parts.items() if value is not None)
    return f"prefixes: {text}" + (", near the limit" if counts.near_limit else "")


def _once(what: str, event: SessionEvent | None) -> list[str]:
    if event is None:
        return []
    return [f"{what}: {event.text}" + (f" ({event.time})" if event.time else "")]


def sessions(states: dict[Session, str]) -> Iterable[ReasonTree]:
    """The sessions, those with one peer and one state on one line; nothing if none is known."""
    found: dict[tuple[str, str], list[str]] = {}
    for (node, peer), state in sorted(states.items()):
        found.setdefault((peer, state), []).append(node)
    if not found:
        return
    lines = [_session(peer, state, nodes) for (peer, state), nodes in sorted(found.items())]
    down = any(line.status == "no" for line in lines)
    yield group("sessions, as the speakers report them", lines, "no" if down else "yes")


def _session(peer: str, state: str, nodes: list[str]) -> ReasonTree:
    if state == UP:
        return leaf(reason("session-up", peer=peer, nodes=listed(nodes)))
    return leaf(reason("session-down", peer=peer, state=state, nodes=listed(nodes)))


def answering(report: Report, item: ServicePlan, focus: Focus) -> Iterable[ReasonTree]:
    """Who says that it answers, against who is to."""
    owner = item.l2.owner if item.l2.announced else ""
    for node in sorted({*report.answering, owner} - {""}):
        if not focus.on(node):
            continue
        if node not in report.answering:
            yield leaf(reason("answer-missing", node=node))
        else:
            code = "answer-reported" if node == owner else "answer-elsewhere"
            yield leaf(reason(code, node=node))


def telling(report: Report, item: ServicePlan, focus: Focus) -> Iterable[ReasonTree]:
    """Who says that it tells whom, against who is to."""
    groups: dict[tuple[str, str], list[str]] = {}
    for node in sorted(report.telling.keys() | item.bgp.nodes.keys()):
        if not focus.on(node):
            continue
        peers = listed(report.telling.get(node, ()))
        if not peers:
            groups.setdefault(("route-missing", ""), []).append(node)
        else:
            code = "route-reported" if node in item.bgp.nodes else "route-elsewhere"
            groups.setdefault((code, peers), []).append(node)
    for (code, peers), nodes in groups.items():
        yield leaf(reason(code, nodes=listed(nodes), peers=peers))
