"""Registers this machine as a Node where no kubelet does: with the embedded API."""

from collections.abc import Iterable, Mapping

from clarion.base.addr import Address
from clarion.edge.kubeclient import KubeClient, NotFoundError
from clarion.model.core import Node
from clarion.model.meta import ObjectKey, ObjectMeta

HOSTNAME_LABEL, OS_LABEL = "kubernetes.io/hostname", "kubernetes.io/os"


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
    own = {HOSTNAME_LABEL: name, OS_LABEL: "linux", **labels}
    key = ObjectKey("", name)
    try:
        await client.patch(Node, key, {"metadata": {"labels": own}})
    except NotFoundError:
        await client.create(Node(metadata=ObjectMeta(name=name, labels=own)))
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
