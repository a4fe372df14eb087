"""The objects of a live API as one snapshot, with what the running programs report there."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import datetime

import msgspec

from clarion.base import limits
from clarion.base.addr import parse_address
from clarion.base.errors import InvalidInputError
from clarion.cli.sources import Question
from clarion.daemons.inputs import CLUSTER_KINDS, CONFIG_KINDS
from clarion.daemons.liveness import (
    CONTROLLER_LEASE,
    INTERFACES_ANNOTATION,
    LEASE_SELECTOR,
    SESSIONS_ANNOTATION,
    SETTINGS_ANNOTATION,
    lease_name,
)
from clarion.daemons.rests import rests_of
from clarion.decide.demand import status_texts
from clarion.decide.observed import Observed, Program, Report
from clarion.decide.snapshot import Options, SecretFacts, Snapshot
from clarion.edge.clock import SystemClock
from clarion.edge.kubeclient import KubeClient, NotFoundError, Selection
from clarion.edge.kubeconfig import find_config
from clarion.model.annotations import LABEL_SERVICE_NAME, LABEL_SERVICE_NAMESPACE
from clarion.model.core import EndpointSlice, Lease, Namespace, Service
from clarion.model.meta import CONFIGURATION_NAMESPACES, KubeObject, ObjectKey
from clarion.model.metallb import ServiceBGPStatus, ServiceL2Status
from clarion.model.sessions import BGPSession, BGPSessionStatus

REPORTS_READ = 8
"""Services on one address whose reports are read; more of them share no address in practice."""


def load_live(
    kubeconfig: str | None,
    options: Options,
    question: Question | None,
    given: Collection[str] = (),
) -> Snapshot:
    """Read everything that decisions read from the API that the kubeconfig names.

    Args:
        kubeconfig: None: that of the environment.
        options: Settings that the user gave; the rest is as the speakers have it.
        question: What is asked about; None: all that there is.
        given: Names of settings that the user gave although they are the defaults.
    """
    return asyncio.run(_read(kubeconfig, options, question, given))


async def _read(
    kubeconfig: str | None, options: Options, question: Question | None, given: Collection[str]
) -> Snapshot:
    clock = SystemClock()
    kinds: list[type[KubeObject]] = [*CLUSTER_KINDS]
    if question is None or question.kind != "pool":
        kinds.append(EndpointSlice)
    async with KubeClient(find_config(kubeconfig, clock)) as client:
        lists = await asyncio.gather(*(client.list_all(kind) for kind in kinds))
        found: list[KubeObject] = [obj for items in lists for obj in items]
        namespaces = {obj.name for obj in found if isinstance(obj, Namespace)}
        namespace = options.namespace or next(
            (name for name in CONFIGURATION_NAMESPACES if name in namespaces),
            CONFIGURATION_NAMESPACES[-1],
        )
        inside = Selection(namespace=namespace)
        for items in await asyncio.gather(*(_list(client, kind, inside) for kind in CONFIG_KINDS)):
            found += items
        services = [obj for obj in found if isinstance(obj, Service)]
        observed, interfaces, settings = await _leases(client, inside, clock.now())
        alive = frozenset(node for node, item in observed.speakers.items() if item.lives)
        asked = _asked(services, question)[:REPORTS_READ]
        told_of = await _list(client, BGPSession, inside)
        observed = with_details(
            observed, (each for each in told_of if isinstance(each, BGPSession))
        )
        reports = [await _report(client, inside, key, alive) for key in asked]
    objects: list[KubeObject | SecretFacts] = list(found)
    snapshot = Snapshot.from_objects(
        objects,
        msgspec.structs.replace(_overridden(settings, options, given), namespace=namespace),
        speakers=alive if observed.speakers else None,
        interfaces=interfaces,
    )
    told = {str(key): item for key, item in zip(asked, reports, strict=True)}
    return msgspec.structs.replace(
        snapshot,
        observed=msgspec.structs.replace(observed, reports=told),
        resting=tuple(rest for pool in snapshot.pools for rest in rests_of(pool, clock.now(), 0.0)),
    )


async def _list(
    client: KubeClient, kind: type[KubeObject], selection: Selection
) -> list[KubeObject]:
    """Objects of a kind; none where the cluster does not have the kind."""
    try:
        return await client.list_all(kind, selection)
    except NotFoundError:
        return []


# What programs tell by their Leases.


async def _leases(
    client: KubeClient, inside: Selection, now: datetime
) -> tuple[Observed, dict[str, list[str]], Options]:
    """What the Leases of a namespace tell; the interfaces of the nodes; the speakers' settings."""
    speakers = msgspec.structs.replace(inside, labels=LEASE_SELECTOR)
    leases = await client.list_all(Lease, speakers)
    interfaces = {
        node_of(lease): [name for name in text.split(",") if name]
        for lease in leases
        if (text := lease.metadata.annotations.get(INTERFACES_ANNOTATION)) is not None
    }
    observed = observed_of(leases, await controller_lease(client, inside.namespace), now)
    return observed, interfaces, settings_of(leases, now)


def settings_of(speakers: Iterable[Lease], now: datetime) -> Options:
    """The flags that most of the live speakers have; the defaults if none tells."""
    told = Counter(
        text
        for lease in speakers
        if program_of(lease, now).lives
        and (text := lease.metadata.annotations.get(SETTINGS_ANNOTATION))
    )
    for text, _ in told.most_common(1):
        return msgspec.json.decode(text, type=Options)
    return Options()


def _overridden(settings: Options, options: Options, given: Collection[str]) -> Options:
    """The settings that are in force, with those of the user in their place."""
    usual = Options()
    fields = {name: getattr(options, name) for name in Options.__struct_fields__}
    wanted = {k: v for k, v in fields.items() if k in given or v != getattr(usual, k)}
    return msgspec.structs.replace(settings, **wanted)


async def controller_lease(client: KubeClient, namespace: str) -> Lease | None:
    """The Lease of the controllers; None where none ever took part in an election."""
    try:
        return await client.get(Lease, ObjectKey(namespace, CONTROLLER_LEASE))
    except NotFoundError:
        return None


def observed_of(speakers: Iterable[Lease], controller: Lease | None, now: datetime) -> Observed:
    """What Leases tell of the programs that hold them."""
    programs = {node_of(lease): program_of(lease, now) for lease in speakers}
    return Observed(
        controller=program_of(controller, now) if controller else None,
        speakers=programs,
        sessions={
            node_of(lease): sessions_of(lease)
            for lease in speakers
            if programs[node_of(lease)].lives
        },
    )


def with_details(observed: Observed, told: Iterable[BGPSession]) -> Observed:
    """The same with what live speakers tell in BGPSession objects.

    Where a speaker writes none, because it is older or the kind has no definition, the word on its
    Lease remains.
    """
    details: dict[str, dict[str, BGPSessionStatus]] = {}
    sessions = {node: dict(states) for node, states in observed.sessions.items()}
    for item in told:
        node, peer = item.status.node, item.status.peer
        if node in sessions and item.status.state:
            details.setdefault(node, {})[peer] = item.status
            sessions[node][peer] = item.status.state
    return msgspec.structs.replace(observed, sessions=sessions, details=details)


def node_of(lease: Lease) -> str:
    """The node of a speaker's Lease."""
    return lease.name.removeprefix(lease_name(""))


def program_of(lease: Lease, now: datetime) -> Program:
    """How a Lease stands by our clock."""
    renewed = lease.spec.renew_time
    age = (now - datetime.fromisoformat(renewed)).total_seconds() if renewed else None
    seconds = lease.spec.lease_duration_seconds or limits.SPEAKER_LEASE_DURATION_SECONDS
    return Program(holder=lease.spec.holder_identity or "", age=age, duration=float(seconds))


def sessions_of(lease: Lease) -> dict[str, str]:
    """Peer -> state of the session, as a speaker told on its Lease."""
    told = lease.metadata.annotations.get(SESSIONS_ANNOTATION) or "{}"
    return msgspec.json.decode(told, type=dict[str, str])


# What speakers tell of single services.


def _asked(services: Iterable[Service], question: Question | None) -> list[ObjectKey]:
    """The services that a question is about, as far as their status tells."""
    if question is None:
        return []
    if question.kind == "address":
        with suppress(InvalidInputError):
            text = str(parse_address(question.name))
            return [item.key for item in services if text in status_texts(item)]
    space, _, own = question.name.rpartition("/")
    return [ObjectKey(space or "default", own)] if question.kind == "service" else []


async def _report(
    client: KubeClient, inside: Selection, service: ObjectKey, alive: frozenset[str]
) -> Report:
    """What live speakers say of one service."""
    labels = f"{LABEL_SERVICE_NAME}={service.name},{LABEL_SERVICE_NAMESPACE}={service.namespace}"
    about = msgspec.structs.replace(inside, labels=labels)
    l2, bgp = await asyncio.gather(
        client.list_all(ServiceL2Status, about), client.list_all(ServiceBGPStatus, about)
    )
    answering = {item.status.node for item in l2 if item.status} & alive
    telling = {item.status.node: item.status.peers for item in bgp if item.status}
    return Report(
        answering=tuple(sorted(answering)),
        telling={node: peers for node, peers in sorted(telling.items()) if node in alive},
    )
