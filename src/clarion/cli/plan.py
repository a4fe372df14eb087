"""`clarion plan`: allocations, owners and routes, before anything is applied."""

from collections.abc import Iterator
from typing import Any

import click

from clarion.cli.render import print_json, print_table, print_yaml
from clarion.cli.sources import Loaded, load
from clarion.cli.validate import findings
from clarion.decide.document import plan_document
from clarion.decide.explain import communities_text
from clarion.decide.plan import Plan
from clarion.decide.planner import plan as decide
from clarion.decide.reasons import Reason
from clarion.decide.registry import listed
from clarion.decide.snapshot import Options


@click.command(context_settings={"max_content_width": 110})
@click.option("-f", "files", multiple=True, metavar="PATH", help="File, directory, or - (stdin).")
@click.option("--kubeconfig", default="", help="Live API to read when no file is given.")
@click.option("--namespace", default="", help="Where configuration objects live.")
@click.option("--lb-class", default="", help="Plan services of this loadBalancerClass.")
@click.option("--node", default="", help="Show the routes of this node only.")
@click.option(
    "--bgp",
    "backend",
    type=click.Choice(["native", "frr", "frr-k8s"]),
    default="native",
    show_default=True,
)
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table")
def command(
    files: tuple[str, ...],
    kubeconfig: str,
    namespace: str,
    lb_class: str,
    node: str,
    backend: Any,
    output: str,
) -> int:
    """Show which service gets which address, who answers for it, and who is told of it.

    Exits with 1 if a manifest cannot be read or an object has an error; the plan of the others is
    shown all the same.
    """
    options = Options(namespace=namespace, lb_class=lb_class, backend=backend)
    loaded = load(files, kubeconfig or None, options)
    plan = decide(loaded.snapshot, node or None)
    if output == "json":
        print_json(plan_document(plan))
    elif output == "yaml":
        print_yaml(plan_document(plan))
    else:
        print_plan(plan)
    return _report(loaded, plan)


def _report(loaded: Loaded, plan: Plan) -> int:
    """Problems go to standard error, so that the plan can be piped."""
    errors = [item for item in findings(loaded) if item.severity == "error"]
    for item in errors:
        place = f"{item.file}:{item.line}:{item.column}: " if item.file else ""
        what = ": ".join(filter(None, (item.object, item.path, item.message)))
        click.echo(f"{place}error [{item.code}] {what}", err=True)
    for problem in plan.problems:
        if problem.severity == "warning":
            text = f"{problem.object}: {problem.message}"
            click.echo(f"warning [{problem.code}] {text}", err=True)
    return 1 if errors else 0


def print_plan(plan: Plan) -> None:
    """The plan as tables."""
    print_table("Pools", ("pool", "IPv4 used", "IPv6 used", "announced by"), _pool_rows(plan))
    print_table("Services", ("service", "addresses", "pool", "layer 2", "BGP"), _service_rows(plan))
    print_table(
        "Routes",
        ("peer", "prefix", "local pref", "communities", "from nodes", "services"),
        _route_rows(plan),
    )


def _pool_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    for name, item in plan.pools.items():
        pool, use = plan.config.pools[name], item.usage
        used = [f"{use.assigned[v]}/{use.capacity[v]}" if use.capacity[v] else "-" for v in (4, 6)]
        yield name, *used, listed([*pool.l2, *pool.bgp]) or "nobody"


def _service_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    for key, item in plan.services.items():
        if item.outcome and item.outcome.action == "ignore":
            continue
        if not item.addresses:
            why = item.outcome.reasons[-1].text if item.outcome and item.outcome.reasons else "-"
            yield str(key), f"none: {why}", "-", "-", "-"
            continue
        owner = item.l2.owner if item.l2.announced else _why_not(item.l2.reasons)
        told = listed(list(item.bgp.nodes)) or _why_not(item.bgp.reasons)
        yield str(key), listed(item.addresses), item.pool, owner, told


def _why_not(reasons: tuple[Reason, ...]) -> str:
    """Why a protocol says nothing; a dash where it was not asked to."""
    if not reasons or reasons[0].code in ("l2-no-advertisement", "bgp-no-advertisement"):
        return "-"
    return f"no: {reasons[0]}"


def _route_rows(plan: Plan) -> Iterator[tuple[str, ...]]:
    """One row per peer and route, whichever nodes send it."""
    rows: dict[tuple[str, ...], tuple[list[str], int]] = {}
    for node in plan.nodes.values():
        for peer in node.peers.values():
            for item in peer.routes:
                route = item.route
                texts = communities_text(route) or "-"
                key = (peer.peer, str(route.prefix), str(route.local_pref), texts)
                rows.setdefault(key, ([], len(item.services)))[0].append(node.node)
    for row, (nodes, services) in rows.items():
        yield *row, listed(nodes), str(services)
