"""Annotation and label keys, and which of two twin annotations counts."""

from typing import Final

from clarion.model.core import Service

PREFIX: Final = "metallb.io/"
DEPRECATED_PREFIX: Final = "metallb.universe.tf/"

# Annotations on services.
ADDRESS_POOL: Final = "metallb.io/address-pool"
LOAD_BALANCER_IPS: Final = "metallb.io/loadBalancerIPs"
ALLOW_SHARED_IP: Final = "metallb.io/allow-shared-ip"
IP_ALLOCATED_FROM_POOL: Final = "metallb.io/ip-allocated-from-pool"

# Annotations on configuration objects, read like fields; MetalLB ignores them.
OWN_PREFIX: Final = "clarion.metallb.io/"

# On a BGPPeer: `true` waits for the peer to connect. MetalLB has no such field and ignores it.
PASSIVE: Final = "clarion.metallb.io/passive"

# On a BGPPeer: how many hops its packets may have travelled (RFC 5082), and how many prefixes it
# may announce before the session is ended.
TTL_SECURITY: Final = "clarion.metallb.io/ttl-security"
MAX_PREFIXES: Final = "clarion.metallb.io/max-prefixes"

# On a BGPAdvertisement: `endpoints` adds the link bandwidth that makes routers share traffic by the
# number of ready endpoints of each node.
LINK_BANDWIDTH: Final = "clarion.metallb.io/link-bandwidth"
BY_ENDPOINTS: Final = "endpoints"

# On an IPAddressPool, and as harmless: addresses given only on request, as in `spec.addresses` or
# one by one, separated by commas; and how long a released address is kept from other services.
RESERVED: Final = "clarion.metallb.io/reserved"
HOLD_DOWN: Final = "clarion.metallb.io/hold-down"

# On an IPAddressPool with a hold-down, written by the controller: what rests, and since when.
RESTING: Final = "clarion.metallb.io/resting"

# Where what an older version cannot hold is kept while an object is seen in that version.
CONVERSION_DATA: Final = "clarion.metallb.io/conversion-data"

# Labels on the status objects, and on services' and slices' objects of the cluster.
LABEL_NODE: Final = "metallb.io/node"
LABEL_SERVICE_NAME: Final = "metallb.io/service-name"
LABEL_SERVICE_NAMESPACE: Final = "metallb.io/service-namespace"
LABEL_COMPONENT_TYPE: Final = "metallb.io/component-type"
LABEL_NODE_NAME: Final = "metallb.io/node-name"
LABEL_SLICE_SERVICE: Final = "kubernetes.io/service-name"
LABEL_EXCLUDE_BALANCERS: Final = "node.kubernetes.io/exclude-from-external-load-balancers"
LABEL_HOSTNAME: Final = "kubernetes.io/hostname"


def deprecated_twin(key: str) -> str:
    """Give the old spelling of a service annotation."""
    return DEPRECATED_PREFIX + key.removeprefix(PREFIX)


_OF_SERVICES = (ADDRESS_POOL, LOAD_BALANCER_IPS, ALLOW_SHARED_IP, IP_ALLOCATED_FROM_POOL)

READ_OF: Final[dict[str, tuple[str, ...]]] = {
    **{deprecated_twin(key): ("Service",) for key in _OF_SERVICES},
    **dict.fromkeys(_OF_SERVICES, ("Service",)),
    PASSIVE: ("BGPPeer",),
    TTL_SECURITY: ("BGPPeer",),
    MAX_PREFIXES: ("BGPPeer",),
    LINK_BANDWIDTH: ("BGPAdvertisement",),
    CONVERSION_DATA: ("BGPPeer",),
    RESERVED: ("IPAddressPool",),
    HOLD_DOWN: ("IPAddressPool",),
    RESTING: ("IPAddressPool",),
}
"""Annotation -> kinds of the objects of which it is read."""


def service_annotation(service: Service, key: str) -> str | None:
    """Value of a service annotation under its new or its deprecated key, None if absent.

    The new key wins whenever it is present, even when it is empty.
    """
    annotations = service.metadata.annotations
    value = annotations.get(key)
    return annotations.get(deprecated_twin(key)) if value is None else value


def deprecated_annotations(service: Service) -> tuple[str, ...]:
    """The deprecated keys that a service carries, sorted."""
    return tuple(sorted(k for k in service.metadata.annotations if k.startswith(DEPRECATED_PREFIX)))
