"""What a service asks for, and what its status says that it has."""

import msgspec

from clarion.base.addr import Address, parse_address
from clarion.base.errors import InvalidInputError
from clarion.decide.ledger import Tenancy
from clarion.decide.reasons import Reason, reason
from clarion.decide.registry import listed
from clarion.decide.snapshot import Options
from clarion.model.annotations import (
    ADDRESS_POOL,
    ALLOW_SHARED_IP,
    LOAD_BALANCER_IPS,
    service_annotation,
)
from clarion.model.core import Service

PREFER, REQUIRE = "PreferDualStack", "RequireDualStack"
IP_FAMILIES = {"IPv4": 4, "IPv6": 6}
V4, V6, DUAL = (4,), (6,), (4, 6)


class Demand(msgspec.Struct, frozen=True, gc=False):
    """What a service asks for.

    Attributes:
        families: IP versions wanted, ascending.
        prefers_dual: Two families are wanted, but one will do.
        primary: The family to give when only one can be given.
        tenancy: With whom it can share an address.
        requested: Addresses asked for by name.
        request_fault: Why the request cannot be read.
        pool: Pool asked for by name.
    """

    families: tuple[int, ...]
    prefers_dual: bool
    primary: int
    tenancy: Tenancy
    requested: tuple[Address, ...] = ()
    request_fault: Reason | None = None
    pool: str = ""

    def fits_families(self, addresses: tuple[Address, ...]) -> bool:
        """True if the service may keep these addresses as far as families go."""
        versions = tuple(sorted(address.version for address in addresses))
        return versions == self.families or (
            self.prefers_dual and len(versions) == 1 and versions[0] in self.families
        )


def families_text(families: tuple[int, ...]) -> str:
    """`IPv4`, `IPv6` or `IPv4, IPv6`."""
    return ", ".join(f"IPv{version}" for version in families)


def read_demand(service: Service, options: Options) -> Demand | Reason:
    """What the service asks for, or why it cannot be served at all."""
    families = _families(service, options)
    if isinstance(families, Reason):
        return families
    spec = service.spec
    if spec.ip_family_policy == REQUIRE and families != DUAL:
        return reason("not-enough-cluster-ips")
    requested = _requested(service)
    fault = requested if isinstance(requested, Reason) else None
    first = IP_FAMILIES.get(spec.ip_families[0], 4) if spec.ip_families else 4
    return Demand(
        families,
        # Only where the service has both families: one cluster IP takes one address.
        families == DUAL and spec.ip_family_policy == PREFER,
        first if first in families else families[0],
        Tenancy(
            _annotation(service, ALLOW_SHARED_IP),
            _backend(service),
            frozenset([(port.protocol, port.port) for port in spec.ports]),
        ),
        () if isinstance(requested, Reason) else requested,
        fault,
        _annotation(service, ADDRESS_POOL),
    )


def _annotation(service: Service, key: str) -> str:
    # Most services have no annotations at all; looking for both spellings costs more than this.
    return (service_annotation(service, key) or "") if service.metadata.annotations else ""


def _families(service: Service, options: Options) -> tuple[int, ...] | Reason:
    """The families of the cluster IPs, ascending."""
    spec = service.spec
    texts = spec.cluster_ips or ((spec.cluster_ip,) if spec.cluster_ip else ())
    if not texts and options.assume_cluster:
        return _assumed_families(service)
    if not texts or texts == ("None",):
        return reason("no-cluster-ip")
    # A colon tells the families apart; whether the rest is an address is the cluster's business.
    versions = tuple(sorted(6 if ":" in text else 4 for text in texts))
    if versions in (V4, V6, DUAL):
        return versions
    return reason("cluster-ips-invalid", addresses=listed(texts))


def _assumed_families(service: Service) -> tuple[int, ...]:
    """The families that a dual-stack cluster would give."""
    spec = service.spec
    if spec.ip_family_policy in (PREFER, REQUIRE) or len(spec.ip_families) > 1:
        return DUAL
    return (IP_FAMILIES.get(spec.ip_families[0], 4),) if spec.ip_families else V4


def _backend(service: Service) -> str:
    if service.spec.external_traffic_policy != "Local":
        return ""
    return ",".join(f"{key}={value}" for key, value in sorted(service.spec.selector.items()))


def _requested(service: Service) -> tuple[Address, ...] | Reason:
    listing = _annotation(service, LOAD_BALANCER_IPS)
    field = service.spec.load_balancer_ip
    if listing and field:
        return reason("request-twice")
    if not listing and not field:
        return ()
    texts = listing.split(",") if listing else [field]
    try:
        return tuple(dict.fromkeys(parse_address(text.strip()) for text in texts))
    except InvalidInputError as error:
        return reason("request-invalid", text=listing or field, fault=error.message)


def status_texts(service: Service) -> list[str]:
    """The addresses in the service's status; entries with a host name only are no addresses."""
    return [entry.ip for entry in service.status.load_balancer.ingress if entry.ip]


def current_addresses(service: Service) -> tuple[Address, ...] | Reason:
    """The addresses that the status says the service has, in its order."""
    texts = status_texts(service)
    if not texts:
        return ()
    try:
        addresses = tuple(parse_address(text) for text in texts)
    except InvalidInputError:
        return reason("status-unreadable", addresses=listed(texts))
    if len(addresses) > 2 or len({address.version for address in addresses}) < len(addresses):
        return reason("status-unreadable", addresses=listed(texts))
    return addresses
