"""ServiceL2Status and ServiceBGPStatus: what this node announces, service by service.

Their names follow from node and service, so writing one twice cannot make two. A speaker writes and
deletes its own; who answers for an address also deletes what an earlier owner left.
"""

import hashlib
from collections.abc import Iterable
from functools import partial
from typing import TypeVar

import msgspec

from clarion.daemons.runtime import Runtime
from clarion.daemons.writer import Write, Writer
from clarion.decide.plan import ServicePlan
from clarion.edge.kubeclient import NotFoundError
from clarion.edge.reflector import Store
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import (
    InterfaceInfo,
    ServiceBGPStatus,
    ServiceBGPStatusStatus,
    ServiceL2Status,
    ServiceL2StatusStatus,
)

NODE_LABEL = "metallb.io/node"
SERVICE_LABEL, NAMESPACE_LABEL = "metallb.io/service-name", "metallb.io/service-namespace"

Told = ServiceL2Status | ServiceBGPStatus
S = TypeVar("S", ServiceL2Status, ServiceBGPStatus)


def status_name(prefix: str, node: str, service: ObjectKey) -> str:
    """`l2-` or `bgp-` and a number made of node and service."""
    digest = hashlib.sha256(f"{node}/{service}".encode()).hexdigest()
    return f"{prefix}-{digest[:10]}"


def service_of(status: Told) -> ObjectKey:
    """The service that a status object is about, by its labels."""
    labels = status.metadata.labels
    return ObjectKey(labels.get(NAMESPACE_LABEL, ""), labels.get(SERVICE_LABEL, ""))


class Statuses:
    """Keeps the status objects of one node equal to what it announces."""

    def __init__(
        self,
        runtime: Runtime,
        writer: Writer,
        node: str,
        l2: Store[ServiceL2Status],
        bgp: Store[ServiceBGPStatus],
    ) -> None:
        self._runtime = runtime
        self._writer = writer
        self._node = node
        self._l2 = l2
        self._bgp = bgp
        self._others: dict[ObjectKey, dict[ObjectKey, None]] = {}

    def observe(self, key: ObjectKey, old: KubeObject | None, new: KubeObject | None) -> None:
        """A status object changed: keep in mind which ones other nodes have of a service."""
        for item in (old, new):
            if not isinstance(item, ServiceL2Status):
                continue
            if item.metadata.labels.get(NODE_LABEL) != self._node:
                known = self._others.setdefault(service_of(item), {})
                known.pop(key, None)
                if item is new:
                    known[key] = None

    def leftovers(self) -> set[ObjectKey]:
        """Services of which this node has a status from before it was started."""
        found: Iterable[Told] = (*self._l2.values(), *self._bgp.values())
        return {
            service_of(item) for item in found if item.metadata.labels.get(NODE_LABEL) == self._node
        }

    def report(self, service: ObjectKey, plan: ServicePlan | None, peers: tuple[str, ...]) -> None:
        """Bring both objects of a service up to date.

        Args:
            service: The service.
            plan: What was decided about it; None when it is gone.
            peers: Peers that this node tells of it.
        """
        l2 = None
        if plan is not None and plan.l2.owner == self._node and plan.l2.announced:
            l2 = ServiceL2StatusStatus(
                node=self._node,
                service_name=service.name,
                service_namespace=service.namespace,
                interfaces=tuple(InterfaceInfo(name=name) for name in plan.l2.interfaces or ()),
            )
            self._clear_earlier_owners(service)
        bgp = None
        if peers:
            bgp = ServiceBGPStatusStatus(
                node=self._node,
                service_name=service.name,
                service_namespace=service.namespace,
                peers=peers,
            )
        self._reconcile(ServiceL2Status, self._l2, "l2", service, l2)
        self._reconcile(ServiceBGPStatus, self._bgp, "bgp", service, bgp)

    def _clear_earlier_owners(self, service: ObjectKey) -> None:
        for key in self._others.get(service, ()):
            delete = partial(self._runtime.client.delete, ServiceL2Status, key)
            self._writer.put((ServiceL2Status, key), delete)

    def _reconcile(
        self,
        kind: type[S],
        store: Store[S],
        prefix: str,
        service: ObjectKey,
        wanted: ServiceL2StatusStatus | ServiceBGPStatusStatus | None,
    ) -> None:
        key = ObjectKey(self._runtime.namespace, status_name(prefix, self._node, service))
        known = store.get(key)
        if wanted is None:
            delete = partial(self._runtime.client.delete, kind, key)
            self._change((kind, key), delete, needed=known is not None)
        else:
            write = partial(self._write, kind, key, service, wanted)
            self._change((kind, key), write, needed=known is None or known.status != wanted)

    def _change(self, slot: tuple[type, ObjectKey], write: Write, *, needed: bool) -> None:
        """Write, unless the object is as wanted and nothing that is under way changes that."""
        if needed or self._writer.busy_with(slot):
            self._writer.put(slot, write)
        else:
            self._writer.forget(slot)

    async def _write(
        self,
        kind: type[S],
        key: ObjectKey,
        service: ObjectKey,
        status: ServiceL2StatusStatus | ServiceBGPStatusStatus,
    ) -> None:
        client = self._runtime.client
        # What the status leaves out must be named, or a merge would keep what was there.
        told = msgspec.to_builtins(status)
        names = (field.encode_name for field in msgspec.structs.fields(status))
        patch = {"status": {name: told.get(name) for name in names}}
        try:
            await client.patch(kind, key, patch, subresource="status")
        except NotFoundError:
            labels = {
                NODE_LABEL: self._node,
                SERVICE_LABEL: service.name,
                NAMESPACE_LABEL: service.namespace,
            }
            meta = ObjectMeta(name=key.name, namespace=key.namespace, labels=labels)
            await client.create(kind(metadata=meta))
            await client.patch(kind, key, patch, subresource="status")
