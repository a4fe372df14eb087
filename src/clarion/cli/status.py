"""`clarion status`: pools and usage, services and who announces them, sessions, problems.

It shows what the running programs reported to the API, and which of them live; not what is planned:
`clarion plan` shows that.
"""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from clarion.cli.render import on_terminal, print_json, print_table, styled
from clarion.decide.observed import Observed, Program
from clarion.decide.sessions import why_down
from clarion.model.core import Lease, Service
from clarion.model.metallb import (
    ConfigurationState,
    IPAddressPool,
    ServiceBGPStatus,
    ServiceL2Status,
)
from clarion.model.sessions import BGPSession

if TYPE_CHECKING:
    from clarion.edge.kubeclient import KubeClient, Selection

SCHEMA = "clarion.status/v1"
REFRESH_SECONDS = 2.0
CLEAR = "\x1b[H\x1b[2J"
Row = tuple[str, ...]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the API holds about the state of things."""

    pools: tuple[IPAddressPool, ...]
    services: tuple[Service, ...]
    l2: tuple[ServiceL2Status, ...]
    bgp: tuple[ServiceBGPStatus, ...]
    leases: tuple[Lease, ...]
    controller: Lease | None
    states: tuple[ConfigurationState, ...]
    sessions: tuple[BGPSession, ...] = ()
    at: datetime

    @property
    def programs(self) -> Observed:
        """Which programs live."""
        from clarion.cli.live import observed_of, with_details

        return with_details(observed_of(self.leases, self.controller, self.at), self.sessions)

    def silent(self) -> frozenset[str]:
        """Nodes of which no live speaker is seen, but something is told."""
        programs = self.programs.speakers
        told = {*programs}
        told |= {item.status.node for item in self.l2 if item.status}
        told |= {item.status.node for item in self.bgp if item.status}
        return frozenset(told - {node for node, item in programs.items() if item.lives})


@click.command()
@click.option("--kubeconfig", default="", help="Default: KUBECONFIG, the Pod's account.")
@click.option("--namespace", default="", help="Default: metallb-system if it exists.")
@click.option("--watch", is_flag=True, help="Refresh until interrupted.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def command(kubeconfig: str, namespace: str, watch: bool, output: str) -> None:
    """Show pools and usage, services, owners, programs, sessions and problems of a running Clarion.

    Alarms come first: that no controller lives to give addresses, or no speaker to announce them.
    """
    asyncio.run(_show(kubeconfig, namespace, watch=watch, as_json=output == "json"))


async def _show(kubeconfig: str, namespace: str, *, watch: bool, as_json: bool) -> None:
    while True:
        state = await observe(kubeconfig, namespace)
        tables = tables_of(state)
        if watch and on_terminal():
            click.echo(CLEAR, nl=False)
        if as_json:
            records = {title: _records(head, rows) for title, (head, rows) in tables.items()}
            print_json({"schema": SCHEMA, **records})
        else:
            for text in alarms(state.programs):
                click.echo(styled(f"ALARM: {text}", "red"))
            for title, (head, rows) in tables.items():
                print_table(title, head, rows)
        if not watch:
            return
        await asyncio.sleep(REFRESH_SECONDS)


async def observe(kubeconfig: str, namespace: str) -> State:
    """Read the state from the API.

    Raises:
        ClarionError: no API, or it refuses.
    """
    from clarion.cli.live import controller_lease
    from clarion.daemons.liveness import LEASE_SELECTOR
    from clarion.daemons.runtime import find_namespace
    from clarion.edge.clock import SystemClock
    from clarion.edge.kubeclient import KubeClient, Selection
    from clarion.edge.kubeconfig import find_config

    async with KubeClient(find_config(kubeconfig or None, SystemClock())) as client:
        inside = Selection(namespace=namespace or await find_namespace(client))
        speakers = msgspec.structs.replace(inside, labels=LEASE_SELECTOR)
        return State(
            pools=tuple(await client.list_all(IPAddressPool, inside)),
            services=tuple(await client.list_all(Service)),
            l2=tuple(await client.list_all(ServiceL2Status, inside)),
            bgp=tuple(await client.list_all(ServiceBGPStatus, inside)),
            leases=tuple(await client.list_all(Lease, speakers)),
            controller=await controller_lease(client, inside.namespace),
            states=tuple(await client.list_all(ConfigurationState, inside)),
            sessions=await _sessions(client, inside),
            at=SystemClock().now(),
        )


async def _sessions(client: "KubeClient", inside: "Selection") -> tuple[BGPSession, ...]:
    """The sessions; none where the cluster does not have the kind yet."""
    from clarion.edge.kubeclient import NotFoundError

    try:
        return tuple(await client.list_all(BGPSession, inside))
    except NotFoundError:
        return ()


def alarms(programs: Observed) -> list[str]:
    """What nobody does because no program lives to do it."""
    found = (programs.no_controller, programs.no_speaker)
    return [f"{why.text}; {why.remedy}" for why in found if why]


def tables_of(observed: State) -> dict[str, tuple[Row, list[Row]]]:
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
        "Controller": (
            ("leader", "alive", "lease renewed"),
            [_controller_row(observed.programs.controller)],
        ),
        "Speakers": (
            ("node", "alive", "lease renewed", "interfaces", "sessions"),
            list(_speaker_rows(observed)),
        ),
        "Sessions": (
            ("peer", "node", "state", "BFD", "since", "prefixes", "why not"),
            list(_session_rows(observed.programs)),
        ),
        "Alarms": (("alarm",), [(text,) for text in alarms(observed.programs)]),
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


def _service_rows(services: Iterable[Service], observed: State) -> Iterator[Row]:
    owners: dict[tuple[str, str], list[str]] = {}
    silent = observed.silent()
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


def _controller_row(leader: Program | None) -> Row:
    if leader is None:
        return "-", "unknown: there is no Lease of a controller", "-"
    return leader.holder or "nobody", *_alive(leader)


def _speaker_rows(observed: State) -> Iterator[Row]:
    from clarion.cli.live import node_of
    from clarion.daemons.liveness import INTERFACES_ANNOTATION

    programs = observed.programs
    for lease in observed.leases:
        node = node_of(lease)
        interfaces = lease.metadata.annotations.get(INTERFACES_ANNOTATION, "")
        known = programs.sessions.get(node)
        sessions = ", ".join(f"{peer} {state}" for peer, state in (known or {}).items())
        told = "unknown" if known is None else sessions or "none"
        yield node, *_alive(programs.speakers[node]), interfaces, told


def _session_rows(programs: Observed) -> Iterator[Row]:
    """The sessions of live speakers, those with one peer together."""
    found = [
        (peer, node, state)
        for node, all_ in programs.sessions.items()
        for peer, state in all_.items()
    ]
    for peer, node, state in sorted(found):
        known = programs.details.get(node, {}).get(peer)
        if known is None:
            yield peer, node, state, "-", "-", "-", "-"
            continue
        count = known.prefixes.announced if known.prefixes else None
        why = why_down(known)
        yield (
            peer,
            node,
            state,
            known.bfd.state if known.bfd else "-",
            known.since or "-",
            "-" if count is None else str(count),
            why.text if why else "-",
        )


def _alive(program: Program) -> tuple[str, str]:
    """Whether it lives, and how long ago it last showed that."""
    if program.age is None:
        return "no, silent for ever", "never"
    seconds = f"{max(0.0, program.age):.0f} s"
    if not program.holder:
        return "no, it gave its lease up", f"{seconds} ago"
    return "yes" if program.lives else f"no, silent for {seconds}", f"{seconds} ago"


def _problem_rows(states: Iterable[ConfigurationState]) -> Iterator[Row]:
    for state in states:
        for line in (state.status.error_summary if state.status else "").splitlines():
            yield state.name, line
