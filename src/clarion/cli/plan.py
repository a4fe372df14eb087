"""`clarion plan`: allocations, owners and routes, before anything is applied."""

from collections.abc import Iterator, Sequence

import click
import msgspec

from clarion.base.errors import ClarionError
from clarion.cli.render import collector_at_rest, print_json, print_table, print_yaml
from clarion.cli.sources import (
    LIVE,
    STDIN,
    Loaded,
    Wanted,
    load,
    source_options,
    tell_unreadable,
)
from clarion.cli.validate import Finding, findings
from clarion.decide.diff import CLASSES
from clarion.decide.document import diff_document, plan_document
from clarion.decide.explain import communities_text
from clarion.decide.plan import Plan, ServicePlan
from clarion.decide.planner import plan as decide
from clarion.decide.reasons import Reason
from clarion.decide.registry import listed
from clarion.decide.reported import not_written
from clarion.decide.snapshot import Snapshot

EXIT_CHANGES = 2
POWERS_FROM = 1 << 40
"""Sizes from here on are written as powers of two, where they are some."""


class Classes(click.ParamType[tuple[str, ...]]):
    """Classes of change, separated by commas, or `any`."""

    name = "class,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The classes."""
        names = tuple(filter(None, (item.strip() for item in str(value).split(","))))
        unknown = [name for name in names if name not in CLASSES and name != "any"]
        if unknown:
            known = ", ".join((*CLASSES, "any"))
            self.fail(f"{', '.join(unknown)} is no class of change; there are {known}", param, ctx)
        return tuple(CLASSES) if "any" in names else names


@click.command(context_settings={"max_content_width": 110})
@source_options
@click.option("--node", default="", help="Show the routes of this node only.")
@click.option(
    "--against",
    multiple=True,
    metavar="PATH",
    help="Show what changes from these objects: files, a saved snapshot, or `live`.",
)
@click.option(
    "--fail-on",
    type=Classes(),
    default="any",
    show_default=True,
    help="With --against: exit with 2 for these classes of change only, such as lost,reset.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table")
def command(
    wanted: Wanted, node: str, against: tuple[str, ...], fail_on: tuple[str, ...], output: str
) -> int:
    """Show which service gets which address, who answers for it, and who is told of it.

    With --against, show what changes instead: a service that is in both keeps the address that it
    has, so that one that moves is one that would really move.

    Exits with 1 if a manifest cannot be read or an object has an error; the plan of the others is
    shown all the same. With --against, exits with 2 if something changes.
    """
    with collector_at_rest():
        if against:
            return _compare(wanted, against, node or None, fail_on, output)
        return _show(wanted, node, output)


def _show(wanted: Wanted, node: str, output: str) -> int:
    loaded = load(wanted)
    _check_node(loaded.snapshot, node)
    made = decide(loaded.snapshot, node or None)
    if output == "table":
        print_plan(made)
    else:
        (print_json if output == "json" else print_yaml)(plan_document(made))
    return _report(loaded, made)


def _check_node(snapshot: Snapshot, node: str) -> None:
    """Refuse the name of a node that is not among the objects."""
    known = [item.name for item in snapshot.nodes]
    if node and node not in known:
        raise ClarionError(f"no node is named {node}", f"give one of: {', '.join(known) or 'none'}")


def _compare(
    wanted: Wanted, against: tuple[str, ...], node: str | None, fail_on: Sequence[str], output: str
) -> int:
    from clarion.cli.changes import print_changes
    from clarion.decide.carry import on_equal_ground
    from clarion.decide.diff import diff

    base = msgspec.structs.replace(wanted, files=against)
    if STDIN in wanted.files and STDIN in against:
        raise ClarionError("standard input can be read once only")
    if not wanted.files and against == (LIVE,):
        raise ClarionError("the live objects would be compared with themselves", "give -f PATH")
    before, after = load(base), load(wanted)
    tell_unreadable(before)
    old, new = on_equal_ground(before.snapshot, after.snapshot)
    after = msgspec.structs.replace(after, snapshot=new)
    found = diff(decide(old, node), decide(new, node))
    if output == "table":
        print_changes(found)
    else:
        (print_json if output == "json" else print_yaml)(diff_document(found))
    failed = _report(after, None)
    counts = found.counts
    return failed or (EXIT_CHANGES if any(name in counts for name in fail_on) else 0)


def _report(loaded: Loaded, made: Plan | None) -> int:
    """Problems go to standard error, so that the plan can be piped; 1 if there is an error."""
    found = findings(loaded)
    known = {(item.code, item.object, item.message) for item in found}
    for problem in made.problems if made else ():
        object_ = str(problem.object)
        if problem.severity == "warning" and (problem.code, object_, problem.message) not in known:
            finding = Finding(
                severity="warning", code=problem.code, object=object_, message=problem.message
            )
            found.append(finding)
    for item in found:
        if item.severity == "error" or made:
            place = f"{item.file}:{item.line}:{item.column}: " if item.file else ""
            what = ": ".join(filter(None, (item.object, item.path, item.message)))
            click.echo(f"{place}{item.severity} [{item.code}] {what}", err=True)
    for note in _doubts(made) if made else ():
        click.echo(f"warning [{note.code}] {note.text}", err=True)
    return int(any(item.severity == "error" for item in found))


def _doubts(made: Plan) -> Iterator[Reason]:
    """Why what runs may differ from what is planned."""
    yield from (item.reason for item in made.set_aside if item.fate == "in-doubt")
    if absent := made.observed.no_controller:
        yield absent


# Tables.


def print_plan(plan: Plan) -> None:
    """The plan as tables. Without nodes: what every node that may announce would tell."""
    print_table(
        "Pools", ("pool", "IPv4 used", "IPv6 used", "layer 2", "BGP"), list(_pool_rows(plan))
    )
    print_table(
        "Services", ("service", "addresses", "pool", "layer 2", "BGP"), list(_service_rows(plan))
    )
    if plan.nodes:
        head = ("peer", "prefix", "local pref", "communities", "from nodes", "services")
        print_table("Routes", head, list(_route_rows(plan)))
    else:
        head = ("advertisement", "prefix", "local pref", "communities", "to peers", "services")
        print_table("Prefixes, from each node that announces", head, list(_prefix_rows(plan)))


def size_text(number: int) -> str:
    """A number of addresses; those of large IPv6 pools as powers of two."""
    power = number.bit_length() - 1
    return f"2^{power}" if number >= POWERS_FROM and number == 1 << power else str(number)


def _pool_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    for name, item in plan.pools.items():
        pool, use = plan.config.pools[name], item.usage
        used = [
            f"{use.assigned[v]} of {size_text(use.capacity[v])}" if use.capacity[v] else "-"
            for v in (4, 6)
        ]
        if pool.l2 or pool.bgp:
            yield name, *used, listed(pool.l2) or "-", listed(pool.bgp) or "-"
        else:
            yield name, *used, "nobody", "nobody"


def _service_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    for key, item in plan.services.items():
        if item.outcome and item.outcome.action == "ignore":
            continue
        if not item.addresses:
            why = item.outcome.reasons[-1].text if item.outcome and item.outcome.reasons else "-"
            yield str(key), f"none: {why}", "-", "-", "-"
            continue
        addresses = listed(item.addresses) + (" (not yet written)" * not_written(plan, item))
        yield str(key), addresses, item.pool or "-", _l2(plan, item), _bgp(plan, item)


def _l2(plan: Plan, item: ServicePlan) -> str:
    decision = item.l2
    if decision.announced:
        return decision.owner
    if not plan.nodes and decision.advertisements:
        return f"by {listed(decision.advertisements)}"
    return _why_not((*decision.reasons, *item.reasons), list(decision.refused.values()))


def _bgp(plan: Plan, item: ServicePlan) -> str:
    decision = item.bgp
    if decision.nodes:
        return listed(list(decision.nodes))
    if not plan.nodes and decision.prefixes:
        return f"by {listed(list(decision.prefixes))}"
    return _why_not((*decision.reasons, *item.reasons), list(decision.refused.values()))


def _why_not(reasons: Sequence[Reason], refused: Sequence[Reason]) -> str:
    """Why a protocol says nothing; a dash where it was not asked to."""
    against = [item for item in reasons if item.verdict == "no"]
    if against and against[0].code in ("l2-no-advertisement", "bgp-no-advertisement"):
        return "-"
    if refused and (not against or against[0].code == "l2-no-candidate"):
        codes = {item.code for item in refused}
        nodes = "every node" if len(refused) > 1 else "the only node"
        why = refused[0].text if len(codes) == 1 else "each for its own reason, see clarion explain"
        return f"nobody: {nodes} is ruled out: {why}"
    return f"nobody: {against[0]}" if against else "-"


def _route_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    """One row per peer and route, whichever nodes send it."""
    rows: dict[tuple[str, ...], tuple[list[str], str]] = {}
    for node in plan.nodes.values():
        for peer in node.peers.values():
            for item in peer.routes:
                route = item.route
                weight = f"weight {route.weight}" if route.weight else ""
                texts = " ".join(filter(None, (communities_text(route), weight))) or "-"
                key = (peer.peer, str(route.prefix), str(route.local_pref or "-"), texts)
                rows.setdefault(key, ([], listed(item.services, 2)))[0].append(node.node)
    for row, (nodes, services) in rows.items():
        yield *row, listed(nodes), services


def _prefix_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    """One row per advertisement and prefix."""
    rows: dict[tuple[str, str], list[str]] = {}
    for key, item in plan.services.items():
        for name, prefixes in item.bgp.prefixes.items():
            for prefix in prefixes:
                rows.setdefault((name, str(prefix)), []).append(str(key))
    for (name, text), services in sorted(rows.items()):
        ad = plan.config.bgp[name]
        peers = [peer for peer in plan.config.peers if ad.goes_to(peer)]
        pref, texts = str(ad.local_pref or "-"), communities_text(ad) or "-"
        yield name, text, pref, texts, listed(peers) or "nobody", listed(services, 2)
