"""The objects of a live API as one snapshot."""

import asyncio
from datetime import datetime, timedelta

import msgspec

from clarion.base import limits
from clarion.cli.sources import CONFIGURATION_NAMESPACES
from clarion.daemons.inputs import CLUSTER_KINDS, CONFIG_KINDS
from clarion.daemons.liveness import (
    INTERFACES_ANNOTATION,
    LEASE_SELECTOR,
    SESSIONS_ANNOTATION,
    lease_name,
)
from clarion.decide.snapshot import Options, SecretFacts, Snapshot
from clarion.edge.clock import SystemClock
from clarion.edge.kubeclient import KubeClient, NotFoundError, Selection
from clarion.edge.kubeconfig import find_config
from clarion.model.core import EndpointSlice, Lease, Namespace
from clarion.model.meta import KubeObject

CLOCK_SKEW_SECONDS = 1.0
"""How far the clock of another machine may be from ours and still be believed."""


class Live(msgspec.Struct, frozen=True):
    """Objects to decide about, and what live speakers report of their sessions."""

    snapshot: Snapshot
    sessions: dict[str, dict[str, str]]


def load_live(kubeconfig: str | None, options: Options) -> Live:
    """Read everything that decisions read from the API that the kubeconfig names."""
    return asyncio.run(_read(kubeconfig, options))


async def _read(kubeconfig: str | None, options: Options) -> Live:
    clock = SystemClock()
    async with KubeClient(find_config(kubeconfig, clock)) as client:
        lists = await asyncio.gather(
            *(client.list_all(kind) for kind in (*CLUSTER_KINDS, EndpointSlice))
        )
        found: list[KubeObject] = [obj for items in lists for obj in items]
        namespaces = {obj.name for obj in found if isinstance(obj, Namespace)}
        namespace = options.namespace or next(
            (name for name in CONFIGURATION_NAMESPACES if name in namespaces),
            CONFIGURATION_NAMESPACES[-1],
        )
        inside = Selection(namespace=namespace)
        for kind in CONFIG_KINDS:
            found += await _list(client, kind, inside)
        leases = await client.list_all(Lease, Selection(namespace=namespace, labels=LEASE_SELECTOR))
    objects: list[KubeObject | SecretFacts] = list(found)
    alive = [lease for lease in leases if renewed(lease, clock.now())]
    prefix = lease_name("")
    snapshot = Snapshot.from_objects(
        objects,
        msgspec.structs.replace(options, namespace=namespace),
        speakers=[lease.name.removeprefix(prefix) for lease in alive] if leases else None,
        interfaces={
            lease.name.removeprefix(prefix): filter(None, text.split(","))
            for lease in leases
            if (text := lease.metadata.annotations.get(INTERFACES_ANNOTATION)) is not None
        },
    )
    return Live(snapshot, {lease.name.removeprefix(prefix): sessions_of(lease) for lease in alive})


def sessions_of(lease: Lease) -> dict[str, str]:
    """Peer -> state of the session, as a speaker told on its Lease."""
    told = lease.metadata.annotations.get(SESSIONS_ANNOTATION) or "{}"
    return msgspec.json.decode(told, type=dict[str, str])


async def _list(
    client: KubeClient, kind: type[KubeObject], selection: Selection
) -> list[KubeObject]:
    """Objects of a kind; none where the cluster does not have the kind."""
    try:
        return await client.list_all(kind, selection)
    except NotFoundError:
        return []


def renewed(lease: Lease, now: datetime) -> bool:
    """True if the holder renewed the lease within its duration, give or take the clocks."""
    if not lease.spec.renew_time or not lease.spec.holder_identity:
        return False
    at = datetime.fromisoformat(lease.spec.renew_time)
    seconds = lease.spec.lease_duration_seconds or limits.SPEAKER_LEASE_DURATION_SECONDS
    return abs(now - at) < timedelta(seconds=seconds + CLOCK_SKEW_SECONDS)
