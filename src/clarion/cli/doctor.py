"""`clarion doctor`: what of host, cluster and wire commonly breaks announcing."""

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from clarion.base import limits
from clarion.base.addr import Address, parse_address
from clarion.base.errors import ClarionError, InvalidInputError
from clarion.cli.render import print_json, print_table, styled
from clarion.cli.speaker import EXCLUDED_INTERFACES
from clarion.decide.doctor import Finding, Unread, examine
from clarion.model.meta import ObjectKey

if TYPE_CHECKING:
    from clarion.decide.doctor_cluster import ClusterFacts, Reached
    from clarion.decide.doctor_wire import WireFacts
    from clarion.decide.snapshot import Options, Snapshot
    from clarion.edge.neighbours import Heard
    from clarion.proto.l2.interfaces import Exclusions, Interface

EXIT_FAILED = 1
SCHEMA = "clarion.metallb.io/doctor.v1"
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "bright_black"}


@click.command()
@click.option("--kubeconfig", default="", help="Default: KUBECONFIG, the Pod's account.")
@click.option("--namespace", default="", help="Default: metallb-system if it exists.")
@click.option("--lb-class", default="", help="The loadBalancerClass that Clarion handles.")
@click.option("--host-only", is_flag=True, help="Neither ask a cluster nor the wire.")
@click.option("--no-wire", is_flag=True, help="Send nothing on the host's segments.")
@click.option(
    "--l2-exclude-interface",
    "excluded",
    multiple=True,
    default=EXCLUDED_INTERFACES,
    metavar="REGEX",
    help="As the speaker has it; default: those of containers and virtual machines.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def command(host_only: bool, output: str, **flags: Any) -> int:
    """Check host, cluster and wire for what commonly breaks announcing.

    Each check is ok, warning, failed or skipped; any that failed makes the exit code 1. Run it on a
    node, as root, to see all. Nothing is changed: the wire hears probes that teach nobody anything.
    """
    findings = _examine(host_only=host_only, **flags)
    if output == "json":
        print_json({"schema": SCHEMA, "checks": findings})
    else:
        _show(findings)
    return EXIT_FAILED if any(item.verdict == "failed" for item in findings) else 0


def _examine(
    *,
    kubeconfig: str,
    namespace: str,
    lb_class: str,
    host_only: bool,
    no_wire: bool,
    excluded: tuple[str, ...],
) -> list[Finding]:
    from clarion.decide.doctor_cluster import API_CHECKS, CLUSTER_CHECKS
    from clarion.decide.doctor_host import HOST_CHECKS
    from clarion.decide.doctor_wire import WIRE_CHECKS
    from clarion.decide.snapshot import Options
    from clarion.edge.hostfacts import read_host, read_interfaces
    from clarion.proto.l2.interfaces import Exclusions

    exclusions = Exclusions(excluded)
    interfaces = asyncio.run(read_interfaces())
    findings = list(examine(HOST_CHECKS, asyncio.run(read_host(interfaces, exclusions))))
    if host_only:
        return findings
    options = Options(namespace=namespace, lb_class=lb_class)
    reached, cluster = _cluster(kubeconfig, options)
    findings += examine(API_CHECKS, reached)
    findings += examine(CLUSTER_CHECKS, cluster)
    wire: WireFacts | Unread
    if isinstance(cluster, Unread):
        wire = cluster
    elif no_wire:
        wire = Unread("--no-wire")
    else:
        wire = asyncio.run(_wire(cluster, interfaces, exclusions))
    return [*findings, *examine(WIRE_CHECKS, wire)]


def _cluster(kubeconfig: str, options: "Options") -> "tuple[Reached, ClusterFacts | Unread]":
    """What is known of the cluster, and whether it was reached."""
    from clarion.cli.live import load_live
    from clarion.decide.doctor_cluster import Reached
    from clarion.decide.planner import plan
    from clarion.edge.clock import SystemClock
    from clarion.edge.clusterfacts import read_cluster
    from clarion.edge.kubeclient import KubeClient
    from clarion.edge.kubeconfig import find_config

    try:
        config = find_config(kubeconfig or None, SystemClock())
    except ClarionError as error:
        named = bool(kubeconfig or os.environ.get("KUBECONFIG"))
        return Reached(configured=named, error=str(error)), Unread("there is no API to ask")

    async def read(snapshot: "Snapshot") -> "ClusterFacts":
        async with KubeClient(config) as client:
            return await read_cluster(client, SystemClock(), snapshot, plan(snapshot))

    try:
        facts = asyncio.run(read(load_live(kubeconfig or None, options, None)))
    except ClarionError as error:
        return Reached(error=str(error)), Unread("the API could not be read")
    return Reached(version=facts.version), facts


# The wire.


async def _wire(
    cluster: "ClusterFacts", interfaces: Sequence["Interface"], exclusions: "Exclusions"
) -> "WireFacts | Unread":
    """Ask for the nodes and for every announced address on each interface that can announce."""
    from clarion.edge.neighbours import ask
    from clarion.proto.l2.interfaces import fitness

    places = [fitness(item, exclusions) for item in interfaces]
    usable = [i for i, fit in zip(interfaces, places, strict=True) if not fit.arp or not fit.ndp]
    nodes = dict(_node_addresses(cluster))
    owners = dict(_owners(cluster))
    told = {address for item in cluster.plan.services.values() for address in item.addresses}
    asked = sorted(told)[: limits.DOCTOR_ADDRESSES]
    try:
        heard = await ask(usable, [*nodes, *asked])
    except OSError as error:
        return Unread(f"packet sockets: {error.strerror}")
    own = {address for item in interfaces for address in item.addresses}
    return _wire_facts(asked, owners, nodes, own, heard)


def _node_addresses(cluster: "ClusterFacts") -> Iterator[tuple[Address, str]]:
    for node in cluster.snapshot.nodes:
        for item in node.status.addresses:
            if item.type in ("InternalIP", "ExternalIP"):
                with suppress(InvalidInputError):
                    yield parse_address(item.address), node.name


def _owners(cluster: "ClusterFacts") -> Iterator[tuple[Address, str]]:
    """Who says that it answers for an address, or is to: what is reported comes before the plan."""
    reported: dict[ObjectKey, str] = {}
    if not isinstance(cluster.statuses, Unread):
        for item in cluster.statuses:
            if item.status:
                service = ObjectKey(item.status.service_namespace, item.status.service_name)
                reported[service] = item.status.node
    for key, plan in cluster.plan.services.items():
        node = reported.get(key) or (plan.l2.owner if plan.l2.announced else "")
        for address in plan.addresses if node else ():
            yield address, node


def _wire_facts(
    asked: Sequence[Address],
    owners: Mapping[Address, str],
    nodes: Mapping[Address, str],
    own: Set[Address],
    heard: "Heard",
) -> "WireFacts":
    from clarion.decide.doctor_wire import Answer, WireFacts

    here = next((name for address, name in nodes.items() if address in own), "")
    stations: dict[str, str] = {}
    for (address, _), found in heard.items():
        # Two stations with a node's own address: neither is known to be the node.
        if address in nodes and len(found) == 1:
            stations[_mac(*found)] = nodes[address]
    known = {*stations.values(), here}
    return WireFacts(
        asked=tuple(map(str, asked)),
        answers=tuple(
            Answer(
                address=str(address),
                interface=name,
                stations=tuple(sorted(map(_mac, heard[address, name]))),
            )
            for address, name in sorted(heard)
            if address not in nodes
        ),
        owners={str(address): owners[address] for address in asked if address in owners},
        here=here,
        stations=stations,
        unheard=tuple(sorted(set(nodes.values()) - known)),
    )


def _mac(station: bytes) -> str:
    return station.hex(":")


# What a person reads.


def _show(findings: Iterable[Finding]) -> None:
    found = list(findings)
    head = ("check", "", "says")
    for scope in ("host", "cluster", "wire"):
        rows = [
            (item.code, styled(item.verdict, COLOURS[item.verdict]), item.says)
            for item in found
            if item.scope == scope
        ]
        print_table(scope.capitalize(), head, rows)
    for item in found:
        if item.verdict in ("failed", "warning"):
            click.echo(f"{item.code}: {item.why}\n  -> {item.remedy}")
    counts = {name: sum(item.verdict == name for item in found) for name in COLOURS}
    click.echo(", ".join(f"{number} {name}" for name, number in counts.items() if number))
