"""The difference of two plans as tables, and a line that sums it up."""

from collections.abc import Iterator, Mapping, Sequence

import click

from clarion.cli.plan import size_text
from clarion.cli.render import print_table, styled
from clarion.decide.advertise import AdvertisedRoute
from clarion.decide.diff import PlanDiff, RouteChange
from clarion.decide.explain import communities_text
from clarion.decide.ledger import PoolUsage
from clarion.decide.reasons import Reason
from clarion.decide.registry import listed

BAD = ("lost", "moved", "owner-lost", "session-removed", "reset", "withdrawn", "problem-new")
"""Classes that interrupt somebody's traffic, or may."""


def print_changes(found: PlanDiff) -> None:
    """Every change, kind by kind, then how many there are and how much stays."""
    print_table(
        "Addresses", ("service", "change", "before", "after", "why"), list(_addresses(found))
    )
    print_table("Layer 2", ("address", "change", "before", "after", "why"), list(_owners(found)))
    print_table("BGP sessions", ("peer", "nodes", "change", "why"), list(_sessions(found)))
    print_table(
        "Routes",
        ("peers", "change", "prefixes", "attributes", "nodes", "why"),
        list(_routes(found)),
    )
    print_table("Pools", ("pool", "IPv4 used", "IPv6 used"), list(_pools(found)))
    print_table("Problems", ("change", "object", "problem"), list(_problems(found)))
    _sum_up(found)


def _sum_up(found: PlanDiff) -> None:
    same = found.unchanged
    rest = (
        f"{same.addresses} addresses, {same.owners} answers, {same.sessions} sessions "
        f"and {same.routes} routes stay as they are"
    )
    counts = found.counts
    if not counts:
        click.echo(f"No change: {rest}.")
        return
    texts = [
        styled(f"{number} {name}", "red" if name in BAD else "green")
        for name, number in counts.items()
    ]
    click.echo(f"Changes: {', '.join(texts)}; {rest}.")


def why_text(reasons: Sequence[Reason]) -> str:
    """The reasons on one line, the first two of them."""
    return "; ".join([item.text for item in reasons[:2]]) + (
        f"; and {len(reasons) - 2} more" if len(reasons) > 2 else ""
    )


def _change(name: str) -> str:
    return styled(name, "red" if name in BAD else "green")


def _addresses(found: PlanDiff) -> Iterator[tuple[str, ...]]:
    for item in found.addresses:
        before, after = str(item.before or "-"), str(item.after or "-")
        yield str(item.service), _change(item.change), before, after, why_text(item.reasons)


def _owners(found: PlanDiff) -> Iterator[tuple[str, ...]]:
    for item in found.owners:
        before, after = _answering(item.before), _answering(item.after)
        change = _change(item.change.removeprefix("owner-"))
        yield str(item.address), change, before, after, why_text(item.reasons)


def _answering(nodes: Mapping[str, tuple[str, ...] | None]) -> str:
    texts = [name if on is None else f"{name} on {listed(on)}" for name, on in nodes.items()]
    return ", ".join(texts) or "-"


def _sessions(found: PlanDiff) -> Iterator[tuple[str, ...]]:
    for item in found.sessions:
        change = _change(item.change.removeprefix("session-"))
        yield item.peer, listed(item.nodes), change, why_text(item.reasons)


def _routes(found: PlanDiff) -> Iterator[tuple[str, ...]]:
    """One row for all prefixes that change alike, and for all peers that are told alike."""
    alike: dict[tuple[str, ...], list[RouteChange]] = {}
    for item in found.routes:
        texts = _attributes(item), listed(item.nodes), why_text(item.reasons)
        alike.setdefault((item.peer, item.change, *texts), []).append(item)
    rows: dict[tuple[str, ...], list[str]] = {}
    for key, items in alike.items():
        prefixes = listed([item.prefix for item in items], 3)
        rows.setdefault((prefixes, *key[1:]), []).append(key[0])
    for row, peers in rows.items():
        prefixes, change, *others = row
        yield listed(peers), _change(change), prefixes, *others


def _attributes(item: RouteChange) -> str:
    if item.before and item.after:
        pairs = [
            f"{name.replace('_', ' ')} {_value(item.before, name)} → {_value(item.after, name)}"
            for name in _shown(item.attributes)
        ]
        return ", ".join(pairs)
    route = item.before or item.after
    assert route is not None, "a change has one side at least"
    parts = [
        f"local pref {route.local_pref}" if route.local_pref else "",
        communities_text(route),
        f"weight {route.weight}" if route.weight else "",
    ]
    return ", ".join(filter(None, parts)) or "-"


def _shown(attributes: Sequence[str]) -> list[str]:
    """All kinds of communities are shown as one."""
    names = ("communities" if name.endswith("communities") else name for name in attributes)
    return list(dict.fromkeys(names))


def _value(route: AdvertisedRoute, name: str) -> str:
    if name.endswith("communities"):
        return communities_text(route) or "none"
    return str(getattr(route, name))


def _pools(found: PlanDiff) -> Iterator[tuple[str, ...]]:
    for item in found.pools:
        yield (
            item.pool,
            *(f"{_used(item.before, v)} → {_used(item.after, v)}" for v in (4, 6)),
        )


def _used(usage: PoolUsage | None, version: int) -> str:
    if usage is None or not usage.capacity[version]:
        return "-"
    return f"{usage.assigned[version]} of {size_text(usage.capacity[version])}"


def _problems(found: PlanDiff) -> Iterator[tuple[str, ...]]:
    for item in found.problems:
        problem = item.problem
        text = f"[{problem.code}] {problem.message}"
        yield _change(item.change.removeprefix("problem-")), str(problem.object), text
