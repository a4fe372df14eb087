"""Metrics for Prometheus, rendered when asked from the last snapshot of values.

Nothing in the product keeps a gauge up to date: whoever owns some state offers a source, a
function that gives its values now, and the registry calls the sources when it is scraped.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, TypeAlias

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from clarion.edge.reflector import ReflectorHealth

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Family(msgspec.Struct, frozen=True):
    """What a metric is; the name is written as it stands here."""

    name: str
    help: str
    type: Literal["counter", "gauge"]
    labels: tuple[str, ...] = ()

    def sample(self, value: float, *labels: str) -> "Sample":
        """One value of this metric."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {labels}")
        return Sample(self, labels, float(value))


class Sample(msgspec.Struct, frozen=True):
    """One value."""

    family: Family
    labels: tuple[str, ...]
    value: float


Source: TypeAlias = Callable[[], Iterable[Sample]]


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(name, text, "gauge", labels)


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(name, text, "counter", labels)


# The names of MetalLB, on which dashboards and alerts rest. Its `_total` on gauges stays too.
POOL_ADDRESSES = _gauge(
    "metallb_allocator_addresses_total", "Addresses that the pool can give.", "pool"
)
POOL_IPV4_ADDRESSES = _gauge(
    "metallb_allocator_ipv4_addresses_total", "IPv4 addresses that the pool can give.", "pool"
)
POOL_IPV6_ADDRESSES = _gauge(
    "metallb_allocator_ipv6_addresses_total", "IPv6 addresses that the pool can give.", "pool"
)
POOL_IN_USE = _gauge(
    "metallb_allocator_addresses_in_use_total", "Addresses of the pool that services hold.", "pool"
)
POOL_IPV4_IN_USE = _gauge(
    "metallb_allocator_ipv4_addresses_in_use_total",
    "IPv4 addresses of the pool that services hold.",
    "pool",
)
POOL_IPV6_IN_USE = _gauge(
    "metallb_allocator_ipv6_addresses_in_use_total",
    "IPv6 addresses of the pool that services hold.",
    "pool",
)
POOL_SERVICES = _gauge(
    "metallb_allocator_services_allocated_total", "Services that hold addresses.", "pool"
)
L2_REQUESTS = _counter(
    "metallb_layer2_requests_received", "ARP and NDP requests for an owned address.", "ip"
)
L2_RESPONSES = _counter("metallb_layer2_responses_sent", "ARP and NDP answers sent.", "ip")
L2_GRATUITOUS = _counter(
    "metallb_layer2_gratuitous_sent", "Gratuitous ARP and unsolicited NDP frames sent.", "ip"
)
SPEAKER_ANNOUNCED = _gauge(
    "metallb_speaker_announced",
    "1 for each address of a service that this node announces.",
    "service",
    "protocol",
    "node",
    "ip",
)
BGP_SESSION_UP = _gauge(
    "metallb_bgp_session_up", "Whether the session is established.", "peer", "vrf"
)
BGP_UPDATES = _counter("metallb_bgp_updates_total", "BGP UPDATE messages sent.", "peer", "vrf")
BGP_UPDATES_RECEIVED = _counter(
    "metallb_bgp_updates_total_received", "BGP UPDATE messages received.", "peer", "vrf"
)
BGP_OPENS_SENT = _counter("metallb_bgp_opens_sent", "BGP OPEN messages sent.", "peer", "vrf")
BGP_OPENS_RECEIVED = _counter(
    "metallb_bgp_opens_received", "BGP OPEN messages received.", "peer", "vrf"
)
BGP_NOTIFICATIONS_SENT = _counter(
    "metallb_bgp_notifications_sent", "BGP NOTIFICATION messages sent.", "peer", "vrf"
)
BGP_KEEPALIVES_SENT = _counter(
    "metallb_bgp_keepalives_sent", "BGP KEEPALIVE messages sent.", "peer", "vrf"
)
BGP_KEEPALIVES_RECEIVED = _counter(
    "metallb_bgp_keepalives_received", "BGP KEEPALIVE messages received.", "peer", "vrf"
)
BGP_REFRESHES_SENT = _counter(
    "metallb_bgp_route_refresh_sent", "BGP ROUTE-REFRESH messages sent.", "peer", "vrf"
)
BGP_TOTAL_SENT = _counter("metallb_bgp_total_sent", "BGP messages sent.", "peer", "vrf")
BGP_TOTAL_RECEIVED = _counter("metallb_bgp_total_received", "BGP messages received.", "peer", "vrf")
BGP_ANNOUNCED = _gauge(
    "metallb_bgp_announced_prefixes_total", "Prefixes announced to the peer.", "peer", "vrf"
)
BGP_PENDING = _gauge(
    "metallb_bgp_pending_prefixes_total",
    "Prefixes that the peer is still to be told.",
    "peer",
    "vrf",
)
BFD_SESSION_UP = _gauge("metallb_bfd_session_up", "Whether the BFD session is up.", "peer", "vrf")
BFD_CONTROL_INPUT = _counter(
    "metallb_bfd_control_packet_input", "BFD control packets received.", "peer", "vrf"
)
BFD_CONTROL_OUTPUT = _counter(
    "metallb_bfd_control_packet_output", "BFD control packets sent.", "peer", "vrf"
)
BFD_ECHO_INPUT = _counter(
    "metallb_bfd_echo_packet_input", "BFD echo packets that came back.", "peer", "vrf"
)
BFD_ECHO_OUTPUT = _counter(
    "metallb_bfd_echo_packet_output", "BFD echo packets sent.", "peer", "vrf"
)
BFD_UPS = _counter(
    "metallb_bfd_session_up_events", "Times that the BFD session came up.", "peer", "vrf"
)
BFD_DOWNS = _counter(
    "metallb_bfd_session_down_events", "Times that the BFD session was lost.", "peer", "vrf"
)
BFD_ZEBRA = _counter(
    "metallb_bfd_zebra_notifications",
    "Notices between bfdd and zebra (back end frr).",
    "peer",
    "vrf",
)
K8S_UPDATES = _counter("metallb_k8s_client_updates_total", "Kubernetes events processed.")
K8S_UPDATE_ERRORS = _counter(
    "metallb_k8s_client_update_errors_total", "Kubernetes events whose processing failed."
)
CONFIG_LOADED = _gauge(
    "metallb_k8s_client_config_loaded_bool", "1 if a configuration was loaded at least once."
)
CONFIG_STALE = _gauge(
    "metallb_k8s_client_config_stale_bool",
    "1 if an older configuration is in force because the present one is invalid.",
)

# Our own.
LOOP_LAG = _gauge("clarion_loop_lag_seconds", "Worst lateness of the event loop since last asked.")
OBJECTS = _gauge("clarion_objects", "Objects known of a kind.", "kind")
FOLLOWING = _gauge(
    "clarion_kind_followed_bool",
    "1 if the kind was read and nothing keeps us from following.",
    "kind",
)
RELISTS = _counter("clarion_lists_total", "Times that all objects of a kind were read.", "kind")
SET_ASIDE = _gauge("clarion_objects_set_aside", "Objects of a kind that cannot be read.", "kind")
ORPHANS = _gauge(
    "clarion_objects_orphaned", "Objects in force whose definition was deleted.", "kind"
)
LEADER = _gauge("clarion_leader_bool", "1 if this program may write: it leads, or is alone.")
WEBHOOK_REVIEWS = _counter(
    "clarion_webhook_reviews_total",
    "Reviews by their end: allowed, refused, converted, failed.",
    "verdict",
)
WEBHOOK_CERTIFICATE = _gauge(
    "clarion_webhook_certificate_expiry_seconds", "End of the webhook certificate, Unix time."
)
BGP_ESTABLISHED = _counter(
    "clarion_bgp_sessions_established_total",
    "Times that the session came up; one that grows shows a session that does not last.",
    "peer",
    "vrf",
)
BGP_NOTIFICATIONS_RECEIVED = _counter(
    "clarion_bgp_notifications_received_total", "BGP NOTIFICATION messages received.", "peer", "vrf"
)
BGP_REFRESHES_RECEIVED = _counter(
    "clarion_bgp_route_refreshes_received_total",
    "BGP ROUTE-REFRESH messages received.",
    "peer",
    "vrf",
)
BGP_FLAPS = _counter(
    "clarion_bgp_session_flaps_total", "Times that an established session was lost.", "peer", "vrf"
)
BGP_STATE = _gauge(
    "clarion_bgp_session_state",
    "State of the session: 1 Idle, 2 Connect, 3 Active, 4 OpenSent, 5 OpenConfirm, 6 Established.",
    "peer",
    "vrf",
)
BGP_ESTABLISH_SECONDS = _gauge(
    "clarion_bgp_session_establish_seconds",
    "Seconds that the session took to come up the last time.",
    "peer",
    "vrf",
)
BGP_WHY_DOWN = _gauge(
    "clarion_bgp_session_down_reason",
    "1 with the code of the reason (docs/reasons.md) while the session is not established.",
    "peer",
    "vrf",
    "reason",
)
BGP_REFUSED = _gauge(
    "clarion_bgp_refused_prefixes", "Prefixes that cannot be told over the session.", "peer", "vrf"
)
BGP_RECEIVED = _gauge(
    "clarion_bgp_received_prefixes",
    "Prefixes that the peer announces; none is used.",
    "peer",
    "vrf",
)
BGP_NEAR_LIMIT = _gauge(
    "clarion_bgp_prefix_limit_near_bool",
    "1 if the peer announces three quarters of the prefixes that end the session.",
    "peer",
    "vrf",
)
RA_NEIGHBOR = _gauge(
    "clarion_bgp_neighbor_known_bool",
    "1 if it is known who is at the other end of an interface with unnumbered peers.",
    "interface",
)
RA_SENT = _counter(
    "clarion_bgp_router_advertisements_sent_total",
    "Router Advertisements and Solicitations sent for unnumbered peers.",
    "interface",
)
RA_HEARD = _counter(
    "clarion_bgp_router_advertisements_heard_total",
    "Valid Router Advertisements and Solicitations that arrived.",
    "interface",
)
RA_REFUSED = _counter(
    "clarion_bgp_router_advertisements_refused_total",
    "Those that were malformed or came from beyond the link (RFC 4861 §6.1).",
    "interface",
)
RA_STRANGERS = _counter(
    "clarion_bgp_router_advertisements_strangers_total",
    "Advertisements of further routers on a link that should have one other end.",
    "interface",
)
FRR_ANSWERS = _gauge("clarion_frr_answers_bool", "1 if FRR answers (back end frr).")
FRR_REFUSED = _gauge("clarion_frr_refused_objects", "Objects of which FRR refused something.")
EVENTS_DROPPED = _counter("clarion_events_dropped_total", "Events not written to the API.")


def metrics_markdown() -> str:
    """The manual's page of metrics."""
    lines = [
        "# Metrics",
        "",
        "`/metrics` of both programs, in Prometheus' text format, besides those of the process.",
        "Names that begin with `metallb_` are MetalLB's, of all its modes. What a back end does",
        "not know has no sample. This page is made from the program itself.",
        "",
        "The label `peer` is address and port of a BGP session, the address of a BFD session, or",
        "the interface of a session without an address; `vrf` is `default` where there is none.",
        "Where two sessions of a node lead to one place, ` (NAME)` of the BGPPeer stands behind.",
        "",
        "| name | type | labels | |",
        "|---|---|---|---|",
    ]
    families = (item for item in globals().values() if isinstance(item, Family))
    for item in sorted(families, key=lambda item: item.name):
        labels = ", ".join(item.labels)
        lines.append(f"| `{item.name}` | {item.type} | {labels} | {item.help} |")
    return "\n".join(lines) + "\n"


class _SnapshotCollector(Collector):
    """Asks all sources when scraped."""

    def __init__(self) -> None:
        self.sources: list[Source] = []

    def collect(self) -> Iterator[Metric]:
        """One prometheus metric per family, in the order in which they first appear."""
        found: dict[str, Metric] = {}
        for source in self.sources:
            for sample in source():
                metric = found.get(sample.family.name)
                if metric is None:
                    metric = found[sample.family.name] = _metric(sample.family)
                labels = dict(zip(sample.family.labels, sample.labels, strict=True))
                metric.add_sample(sample.family.name, labels, sample.value)
        yield from found.values()


def _metric(family: Family) -> Metric:
    """The library's metric under exactly our name.

    It takes `_total` off counters and puts it back when writing, which would rename the counters
    of MetalLB that have no such ending; those are written without a declared type.
    """
    if family.type == "gauge":
        return Metric(family.name, family.help, "gauge")
    if family.name.endswith("_total"):
        return Metric(family.name.removesuffix("_total"), family.help, "counter")
    return Metric(family.name, family.help, "unknown")


class Metrics:
    """A registry of sources, with the usual metrics of the process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._collector = _SnapshotCollector()
        self._registry.register(self._collector)

    def add(self, source: Source) -> None:
        """Ask this source too at each scrape."""
        self._collector.sources.append(source)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def follow_samples(kinds: Iterable[ReflectorHealth]) -> Iterator[Sample]:
    """How well the API is followed, kind by kind."""
    for health in kinds:
        yield OBJECTS.sample(health.objects, health.kind)
        yield FOLLOWING.sample(health.synced and not health.trouble, health.kind)
        yield RELISTS.sample(health.lists, health.kind)
        yield SET_ASIDE.sample(len(health.set_aside), health.kind)
        yield ORPHANS.sample(health.orphans, health.kind)
