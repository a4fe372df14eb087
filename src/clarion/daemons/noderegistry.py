"""Registers this machine as a Node where no kubelet does: with the embedded API."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from clarion.base.addr import Address
from clarion.base.ports import Clock
from clarion.daemons.writer import Writer
from clarion.edge.ifaddrs import interface_addresses
from clarion.edge.kubeclient import AlreadyExistsError, KubeClient, NotFoundError
from clarion.edge.logs import Log
from clarion.model.annotations import LABEL_HOSTNAME
from clarion.model.core import Node
from clarion.model.meta import ObjectKey, ObjectMeta, OwnerReference

OS_LABEL = "kubernetes.io/os"


async def register_node(
    client: KubeClient,
    name: str,
    addresses: Iterable[Address],
    labels: Mapping[str, str],
    when: str,
) -> None:
    """Create or refresh the Node; labels that somebody else set stay.

    Args:
        client: How to reach the server.
        name: The node's name.
        addresses: Where the node can be reached; the first of each family is told.
        labels: Labels to set beside the usual ones.
        when: The date and time, as Kubernetes writes it.

    Raises:
        ApiError: the API refused or cannot be reached.
    """
    own = {LABEL_HOSTNAME: name, OS_LABEL: "linux", **labels}
    key = ObjectKey("", name)
    patch = {"metadata": {"labels": own}}
    try:
        await client.patch(Node, key, patch)
    except NotFoundError:
        try:
            await client.create(Node(metadata=ObjectMeta(name=name, labels=own)))
        except AlreadyExistsError:
            await client.patch(Node, key, patch)
    first = {address.version: address for address in reversed(tuple(addresses))}
    status = {
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "SpeakerRegistered",
                "message": "registered by its speaker",
                "lastHeartbeatTime": when,
                "lastTransitionTime": when,
            }
        ],
        "addresses": [
            *(
                {"type": "InternalIP", "address": str(address)}
                for _, address in sorted(first.items())
            ),
            {"type": "Hostname", "address": name},
        ],
    }
    await client.patch(Node, key, {"status": status}, subresource="status")


def node_owner(node: Node | None) -> tuple[OwnerReference, ...]:
    """The reference by which an object goes with its node; none while there is no Node."""
    if node is None:
        return ()
    return (OwnerReference(api_version="v1", kind="Node", name=node.name, uid=node.metadata.uid),)


class OwnNode:
    """The Node object of this machine: registered where that is asked for, missed where it lacks.

    Args:
        name: Its name.
        nodes: The Nodes as last seen.
        log: Where its absence is told.
    """

    def __init__(self, name: str, nodes: Mapping[ObjectKey, Node], log: Log) -> None:
        self._key = ObjectKey("", name)
        self._nodes = nodes
        self._log = log
        self._missed = False
        self._register: Callable[[], None] | None = None

    def keep_registered(
        self, client: KubeClient, writer: Writer, clock: Clock, labels: Mapping[str, str]
    ) -> None:
        """Register the Node now, and again whenever somebody deletes it."""

        async def register() -> None:
            addresses = [item.address for item in interface_addresses() if item.usable]
            when = clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
            await register_node(client, self._key.name, addresses, labels, when)

        self._register = partial(writer.put, (Node, self._key), register)
        self._register()

    @property
    def known(self) -> bool:
        """Whether the API has it."""
        return self._key in self._nodes

    def missing(self) -> Iterable[str]:
        """What `/readyz` says of it."""
        return () if self.known else (f"no Node {self._key.name} in the API",)

    def look(self) -> None:
        """Tell when it is missing and when it is there, once each, or have it registered."""
        if self.known == (not self._missed):
            return
        self._missed = not self.known
        if not self._missed:
            self._log.info("the Node is there", node=self._key.name)
        elif self._register is not None:
            self._log.info("the Node is not in the API; registering it", node=self._key.name)
            self._register()
        else:
            self._log.error(
                "no Node of this name is in the API: nothing is announced until there is one",
                node=self._key.name,
                remedy="give --node-name as kubectl get nodes shows it, or --register-node "
                "where no kubelet registers nodes",
            )
