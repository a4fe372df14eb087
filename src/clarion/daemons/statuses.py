"""ServiceL2Status and ServiceBGPStatus: what this node announces, service by service.

Their names follow from node and service, so writing one twice cannot make two. A speaker writes and
deletes its own; who answers for an address also deletes what an earlier owner left. Whatever stands
under this node's label and another name is from another program that ran here before, and goes.
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from sys import intern
from typing import TypeVar

import msgspec

from clarion.daemons.noderegistry import node_owner
from clarion.daemons.writer import Write, Writer
from clarion.decide.plan import ServicePlan
from clarion.edge.kubeclient import AlreadyExistsError, KubeClient, NotFoundError
from clarion.model.annotations import (
    LABEL_NODE,
    LABEL_SERVICE_NAME,
    LABEL_SERVICE_NAMESPACE,
)
from clarion.model.core import Node
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.model.metallb import (
    InterfaceInfo,
    ServiceBGPStatus,
    ServiceBGPStatusStatus,
    ServiceL2Status,
    ServiceL2StatusStatus,
)

Told = ServiceL2Status | ServiceBGPStatus
Content = ServiceL2StatusStatus | ServiceBGPStatusStatus
S = TypeVar("S", ServiceL2Status, ServiceBGPStatus)
Slot = tuple[type[Told], ObjectKey]
PREFIXES: dict[type[Told], str] = {ServiceL2Status: "l2", ServiceBGPStatus: "bgp"}


def status_name(prefix: str, node: str, service: ObjectKey) -> str:
    """`l2-` or `bgp-` and a number made of node and service."""
    digest = hashlib.sha256(f"{node}/{service}".encode()).hexdigest()
    return f"{prefix}-{digest[:10]}"


def service_of(status: Told) -> ObjectKey:
    """The service that a status object is about, by its labels."""
    labels = status.metadata.labels
    return ObjectKey(labels.get(LABEL_SERVICE_NAMESPACE, ""), labels.get(LABEL_SERVICE_NAME, ""))


def slimmed(item: S) -> S:
    """What is read here of a status object, equal texts once.

    There is one for each service: whole ones would be a tenth of a speaker's memory.
    """
    meta, status = item.metadata, item.status
    names = (LABEL_NODE, LABEL_SERVICE_NAME, LABEL_SERVICE_NAMESPACE)
    labels = {name: intern(meta.labels[name]) for name in names if name in meta.labels}
    kept = ObjectMeta(name=meta.name, namespace=intern(meta.namespace), labels=labels)
    shared: dict[str, object] = {
        "node": intern(status.node),
        "service_name": intern(status.service_name),
        "service_namespace": intern(status.service_namespace),
    }
    if isinstance(status, ServiceBGPStatusStatus):
        shared["peers"] = tuple(map(intern, status.peers))
    return type(item)(metadata=kept, status=msgspec.structs.replace(status, **shared))


class Statuses:
    """Keeps the status objects of one node equal to what it announces.

    Args:
        client: How to reach the API.
        writer: Performs the writes.
        namespace: Where the objects live.
        node: The node.
        l2: The ServiceL2Status objects of all nodes, as last seen.
        bgp: The ServiceBGPStatus objects of this node, as last seen.
        nodes: The Nodes: with this node's go its objects.
    """

    def __init__(
        self,
        client: KubeClient,
        writer: Writer,
        namespace: str,
        node: str,
        l2: Mapping[ObjectKey, ServiceL2Status],
        bgp: Mapping[ObjectKey, ServiceBGPStatus],
        nodes: Mapping[ObjectKey, Node],
    ) -> None:
        self._client = client
        self._writer = writer
        self._namespace = namespace
        self._node = node
        self._l2 = l2
        self._bgp = bgp
        self._nodes = nodes
        self._told: dict[Slot, Content] = {}
        self._strays: dict[tuple[type[Told], ObjectKey], dict[ObjectKey, str]] = {}

    def observe(self, old: KubeObject | None, new: KubeObject | None) -> ObjectKey | None:
        """A status object changed.

        Returns:
            The service that must be reported again, if this was not our own doing.
        """
        item = old if new is None else new
        if not isinstance(item, ServiceL2Status | ServiceBGPStatus):
            return None
        service, node = service_of(item), item.metadata.labels.get(LABEL_NODE, "")
        slot = type(item), item.key
        if item.key != self._key(type(item), service):
            self._keep_in_mind(slot, service, None if new is None else node)
            return service if node == self._node and new is not None else None
        found = None if new is None else item.status
        if found == self._told.get(slot):
            if found is not None:
                self._told[slot] = found  # one copy is enough
            return None
        return None if self._writer.busy_with(slot) else service

    def _keep_in_mind(self, slot: Slot, service: ObjectKey, node: str | None) -> None:
        """Remember whose object about a service stands under which key; None: it is gone."""
        kind, key = slot
        known = self._strays.setdefault((kind, service), {})
        known.pop(key, None)
        if node is not None:
            known[key] = node
        elif not known:
            del self._strays[kind, service]

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
        bgp = None
        if peers:
            bgp = ServiceBGPStatusStatus(
                node=self._node,
                service_name=service.name,
                service_namespace=service.namespace,
                peers=peers,
            )
        self._clear_strays(ServiceL2Status, service, of_others=l2 is not None)
        self._clear_strays(ServiceBGPStatus, service, of_others=False)
        self._reconcile(ServiceL2Status, self._l2, service, l2)
        self._reconcile(ServiceBGPStatus, self._bgp, service, bgp)

    def _key(self, kind: type[Told], service: ObjectKey) -> ObjectKey:
        return ObjectKey(self._namespace, status_name(PREFIXES[kind], self._node, service))

    def _clear_strays(self, kind: type[Told], service: ObjectKey, *, of_others: bool) -> None:
        for key, node in self._strays.get((kind, service), {}).items():
            if of_others or node == self._node:
                self._writer.put((kind, key), partial(self._client.delete, kind, key))

    def _reconcile(
        self,
        kind: type[S],
        store: Mapping[ObjectKey, S],
        service: ObjectKey,
        wanted: Content | None,
    ) -> None:
        key = self._key(kind, service)
        slot: Slot = kind, key
        known = store.get(key)
        busy = self._writer.busy_with(slot)
        if busy and self._told.get(slot) == wanted:
            return  # it is on its way
        write: Write
        if wanted is None:
            self._told.pop(slot, None)
            write = partial(self._client.delete, kind, key)
        else:
            self._told[slot] = wanted
            write = partial(self._write, kind, key, service, wanted, there=known is not None)
        if busy or (known and known.status) != wanted:
            self._writer.put(slot, write)

    async def _write(
        self, kind: type[S], key: ObjectKey, service: ObjectKey, status: Content, *, there: bool
    ) -> None:
        """Write a status; `there` says whether the watch has told of its object."""
        client = self._client
        # What the status leaves out must be named, or a merge would keep what was there.
        told = msgspec.to_builtins(status)
        names = (field.encode_name for field in msgspec.structs.fields(status))
        patch = {"status": {name: told.get(name) for name in names}}
        if not there:
            with suppress(AlreadyExistsError):  # by an earlier write of which the watch is behind
                await client.create(kind(metadata=self._meta(key, service)))
        try:
            await client.patch(kind, key, patch, subresource="status")
        except NotFoundError:
            await client.create(kind(metadata=self._meta(key, service)))
            await client.patch(kind, key, patch, subresource="status")

    def _meta(self, key: ObjectKey, service: ObjectKey) -> ObjectMeta:
        labels = {
            LABEL_NODE: self._node,
            LABEL_SERVICE_NAME: service.name,
            LABEL_SERVICE_NAMESPACE: service.namespace,
        }
        owners = node_owner(self._nodes.get(ObjectKey("", self._node)))
        return ObjectMeta(
            name=key.name, namespace=key.namespace, labels=labels, owner_references=owners
        )
