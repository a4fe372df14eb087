"""`clarion status`: pools and usage, services and who announces them, sessions, problems.

It shows what the running programs reported to the API, not what is planned; `clarion plan` shows
the latter.
"""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import click
import msgspec

from clarion.cli.render import on_terminal, print_json, print_table
from clarion.model.core import Lease, Service
from clarion.model.metallb import (
    ConfigurationState,
    IPAddressPool,
    ServiceBGPStatus,
    ServiceL2Status,
)

REFRESH_SECONDS = 2.0
CLEAR = "\x1b[H\x1b[2J"
Row = tuple[str, ...]


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What the API holds about the state of things."""

    pools: tuple[IPAddressPool, ...]
    services: tuple[Service, ...]
    l2: tuple[ServiceL2Status, ...]
    bgp: tuple[ServiceBGPStatus, ...]
    leases: tuple[Lease, ...]
    states: tuple[ConfigurationState, ...]
    at: datetime

    @property
    def silent(self) -> frozenset[str]:
        """Nodes of which no live speaker is seen, but something is told."""
        from clarion.cli.live import renewed

        alive = {item.spec.holder_identity for item in self.leases if renewed(item, self.at)}
        told = {item.spec.holder_identity for item in self.leases}
        told |= {item.status.node for item in self.l2 if item.status}
        told |= {item.status.node for item in self.bgp if item.status}
        return frozenset(str(name) for name in told - alive)


@click.command()
@click.option("--kubeconfig", default="", help="Default: KUBECONFIG, the Pod's account.")
@click.option("--namespace", default="", help="Default: metallb-system if it exists.")
@click.option("--watch", is_flag=True, help="Refresh until interrupted.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def command(kubeconfig: str, namespace: str, watch: bool, output: str) -> None:
    """Show pools and usage, services, owners, sessions and problems of a running Clarion."""
    asyncio.run(_show(kubeconfig, namespace, watch=watch, as_json=output == "json"))


async def _show(kubeconfig: str, namespace: str, *, watch: bool, as_json: bool) -> None:
    while True:
        tables = tables_of(await observe(kubeconfig, namespace))
        if watch and on_terminal():
            click.echo(CLEAR, nl=False)
        if as_json:
            print_json({title: _records(head, rows) for title, (head, rows) in tables.items()})
        else:
            for title, (head, rows) in tables.items():
                print_table(title, head, rows)
        if not watch:
            return
        await asyncio.sleep(REFRESH_SECONDS)


async def observe(kubeconfig: str, namespace: str) -> Observed:
    """Read the state from the API.

    Raises:
        ClarionError: no API, or it refuses.
    """
    from clarion.daemons.liveness import LEASE_SELECTOR
    from clarion.daemons.runtime import find_namespace
    from clarion.edge.clock import SystemClock
    from clarion.edge.kubeclient import KubeClient, Selection
    from clarion.edge.kubeconfig import find_config

    async with KubeClient(find_config(kubeconfig or None, SystemClock())) as client:
        inside = Selection(namespace=namespace or await find_namespace(client))
        speakers = msgspec.structs.replace(inside, labels=LEASE_SELECTOR)
        return Observed(
            pools=tuple(await client.list_all(IPAddressPool, inside)),
            services=tuple(await client.list_all(Service)),
            l2=tuple(await client.list_all(ServiceL2Status, inside)),
            bgp=tuple(await client.list_all(ServiceBGPStatus, inside)),
            leases=tuple(await client.list_all(Lease, speakers)),
            states=tuple(await client.list_all(ConfigurationState, inside)),
            at=SystemClock().now(),
        )


def tables_of(observed: Observed) -> dict[str, tuple[Row, list[Row]]]:
    """Title -> column names and rows."""
    services = [item for item in observed.services if item.spec.type == "LoadBalancer"]
    return {
        "Pools": (
            ("pool", "addresses", "IPv4 used/free", "IPv6 used/free"),
            list(_pool_rows(observed.pools)),
        ),
        "Services": (
            ("service", "addresses", "answered by", "announced by BGP from"),
            list(_service_rows(services, observed)),
        ),
        "Speakers": (
            ("node", "alive", "interfaces", "sessions"),
            list(_speaker_rows(observed)),
        ),
        "Problems": (("seen by", "problem"), list(_problem_rows(observed.states))),
    }


def _records(head: Row, rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [dict(zip(head, row, strict=True)) for row in rows]


def _pool_rows(pools: Iterable[IPAddressPool]) -> Iterator[Row]:
    for pool in pools:
        use = pool.status
        yield (
            pool.name,
            ", ".join(pool.spec.addresses),
            f"{use.assigned_ipv4}/{use.available_ipv4}" if use else "unknown",
            f"{use.assigned_ipv6}/{use.available_ipv6}" if use else "unknown",
        )


def _service_rows(services: Iterable[Service], observed: Observed) -> Iterator[Row]:
    owners: dict[tuple[str, str], list[str]] = {}
    silent = observed.silent
    for item in observed.l2:
        if item.status and item.status.node not in silent:
            place = item.status.service_namespace, item.status.service_name
            owners.setdefault(place, []).append(item.status.node)
    told: dict[tuple[str, str], list[str]] = {}
    for entry in observed.bgp:
        if entry.status and entry.status.node not in silent:
            place = entry.status.service_namespace, entry.status.service_name
            told.setdefault(place, []).append(
                f"{entry.status.node} to {','.join(entry.status.peers)}"
            )
    for service in services:
        addresses = [entry.ip for entry in service.status.load_balancer.ingress]
        yield (
            str(service.key),
            ", ".join(addresses) or "pending",
            ", ".join(sorted(owners.get(service.key, ()))) or "-",
            "; ".join(sorted(told.get(service.key, ()))) or "-",
        )


def _speaker_rows(observed: Observed) -> Iterator[Row]:
    from clarion.cli.live import sessions_of
    from clarion.daemons.liveness import INTERFACES_ANNOTATION

    for lease in observed.leases:
        node = lease.spec.holder_identity or lease.name
        told = lease.metadata.annotations
        interfaces = told.get(INTERFACES_ANNOTATION, "")
        if node in observed.silent:
            yield node, f"no, silent for {_silence(lease, observed.at)}", interfaces, "unknown"
            continue
        sessions = ", ".join(f"{peer} {state}" for peer, state in sessions_of(lease).items())
        yield node, "yes", interfaces, sessions or "none"


def _silence(lease: Lease, now: datetime) -> str:
    if not lease.spec.renew_time:
        return "ever"
    return f"{(now - datetime.fromisoformat(lease.spec.renew_time)).total_seconds():.0f} s"


def _problem_rows(states: Iterable[ConfigurationState]) -> Iterator[Row]:
    for state in states:
        for line in (state.status.error_summary if state.status else "").splitlines():
            yield state.name, line
