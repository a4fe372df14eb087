"""The kinds of Kubernetes itself that Clarion reads: only the fields that it reads.

Times are RFC 3339 strings as the API sends them; quantities that may be a number or a name
(`target_port`) keep the type that they were written with.
"""

import msgspec

from clarion.model.meta import (
    Condition,
    JSONObject,
    KubeObject,
    Model,
    ObjectReference,
    always,
)


class NamespaceStatus(Model, frozen=True, kw_only=True, gc=False):
    """Life cycle of a namespace."""

    phase: str = ""


class Namespace(KubeObject, frozen=True, kw_only=True, gc=False):
    """A namespace; its labels are matched by `serviceAllocation.namespaceSelectors`."""

    api_version: str = always("v1")
    kind: str = always("Namespace")
    status: NamespaceStatus = NamespaceStatus()


class Taint(Model, frozen=True, kw_only=True, gc=False):
    """A mark that repels pods from a node."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Model, frozen=True, kw_only=True, gc=False):
    """What is wanted of a node."""

    pod_cidr: str = ""
    pod_cidrs: tuple[str, ...] = ()
    provider_id: str = ""
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeCondition(Model, frozen=True, kw_only=True, gc=False):
    """One observed fact about a node."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_heartbeat_time: str | None = None
    last_transition_time: str | None = None


class NodeAddress(Model, frozen=True, kw_only=True, gc=False):
    """One address of a node: InternalIP, ExternalIP, Hostname."""

    type: str = ""
    address: str = ""


class NodeStatus(Model, frozen=True, kw_only=True, gc=False):
    """What is known of a node."""

    conditions: tuple[NodeCondition, ...] = ()
    addresses: tuple[NodeAddress, ...] = ()


class Node(KubeObject, frozen=True, kw_only=True, gc=False):
    """A machine of the cluster."""

    api_version: str = always("v1")
    kind: str = always("Node")
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ServicePort(Model, frozen=True, kw_only=True, gc=False):
    """One port of a service."""

    name: str = ""
    protocol: str = "TCP"
    app_protocol: str | None = None
    port: int = 0
    target_port: int | str | None = None
    node_port: int = 0


class ClientIPConfig(Model, frozen=True, kw_only=True, gc=False):
    """How long a client sticks to a backend."""

    timeout_seconds: int | None = None


class SessionAffinityConfig(Model, frozen=True, kw_only=True, gc=False):
    """Parameters of session affinity."""

    client_ip: ClientIPConfig | None = None


class ServiceSpec(Model, frozen=True, kw_only=True, gc=False):
    """What a service asks for."""

    type: str = "ClusterIP"
    cluster_ip: str = ""
    cluster_ips: tuple[str, ...] = ()
    ip_families: tuple[str, ...] = ()
    ip_family_policy: str | None = None
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = msgspec.field(default_factory=dict)
    external_traffic_policy: str = ""
    internal_traffic_policy: str | None = None
    traffic_distribution: str | None = None
    health_check_node_port: int = 0
    load_balancer_ip: str = ""
    load_balancer_class: str | None = None
    load_balancer_source_ranges: tuple[str, ...] = ()
    allocate_load_balancer_node_ports: bool | None = None
    publish_not_ready_addresses: bool = False
    session_affinity: str = ""
    session_affinity_config: SessionAffinityConfig | None = None
    external_ips: tuple[str, ...] = ()
    external_name: str = ""


class PortStatus(Model, frozen=True, kw_only=True, gc=False):
    """State of one port of a load balancer address."""

    port: int = 0
    protocol: str = ""
    error: str | None = None


class LoadBalancerIngress(Model, frozen=True, kw_only=True, gc=False):
    """One address under which a service is reached."""

    ip: str = ""
    hostname: str = ""
    ip_mode: str | None = None
    ports: tuple[PortStatus, ...] = ()


class LoadBalancerStatus(Model, frozen=True, kw_only=True, gc=False):
    """The addresses that a load balancer gave."""

    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Model, frozen=True, kw_only=True, gc=False):
    """What a service got."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()
    conditions: tuple[Condition, ...] = ()


class Service(KubeObject, frozen=True, kw_only=True, gc=False):
    """A named set of backends behind stable addresses."""

    api_version: str = always("v1")
    kind: str = always("Service")
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class EndpointConditions(Model, frozen=True, kw_only=True, gc=False):
    """State of a backend; an absent `ready` counts as true, by the API's definition."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class Endpoint(Model, frozen=True, kw_only=True, gc=False):
    """One backend."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str | None = None
    node_name: str | None = None
    zone: str | None = None
    target_ref: ObjectReference | None = None


class EndpointPort(Model, frozen=True, kw_only=True, gc=False):
    """One port of all backends of a slice."""

    name: str | None = None
    protocol: str | None = None
    port: int | None = None
    app_protocol: str | None = None


class EndpointSlice(KubeObject, frozen=True, kw_only=True, gc=False):
    """Some of the backends of a service (label `kubernetes.io/service-name`)."""

    api_version: str = always("discovery.k8s.io/v1")
    kind: str = always("EndpointSlice")
    address_type: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Secret(KubeObject, frozen=True, kw_only=True, gc=False):
    """Confidential values; `data` is base64 as the API sends it."""

    api_version: str = always("v1")
    kind: str = always("Secret")
    type: str = ""
    immutable: bool | None = None
    data: dict[str, str] = msgspec.field(default_factory=dict)
    string_data: dict[str, str] = msgspec.field(default_factory=dict)


class ConfigMap(KubeObject, frozen=True, kw_only=True, gc=False):
    """Plain values; `binary_data` is base64 as the API sends it."""

    api_version: str = always("v1")
    kind: str = always("ConfigMap")
    immutable: bool | None = None
    data: dict[str, str] = msgspec.field(default_factory=dict)
    binary_data: dict[str, str] = msgspec.field(default_factory=dict)


class EventSource(Model, frozen=True, kw_only=True, gc=False):
    """Who reported an event, old form."""

    component: str = ""
    host: str = ""


class EventSeries(Model, frozen=True, kw_only=True, gc=False):
    """How often an event was seen."""

    count: int = 0
    last_observed_time: str | None = None


class Event(KubeObject, frozen=True, kw_only=True, gc=False):
    """Something that happened to an object, for people to read."""

    api_version: str = always("v1")
    kind: str = always("Event")
    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    type: str = ""
    action: str = ""
    count: int = 0
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    series: EventSeries | None = None
    source: EventSource = EventSource()
    related: ObjectReference | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


class LeaseSpec(Model, frozen=True, kw_only=True, gc=False):
    """Who holds a lease, since when and for how long."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(KubeObject, frozen=True, kw_only=True, gc=False):
    """A claim that must be renewed; speakers show by it that they live."""

    api_version: str = always("coordination.k8s.io/v1")
    kind: str = always("Lease")
    spec: LeaseSpec = LeaseSpec()


class PodIP(Model, frozen=True, kw_only=True, gc=False):
    """One address of a pod."""

    ip: str = ""


class PodSpec(Model, frozen=True, kw_only=True, gc=False):
    """Where a pod runs."""

    node_name: str = ""
    host_network: bool = False


class PodCondition(Model, frozen=True, kw_only=True, gc=False):
    """One observed fact about a pod."""

    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class PodStatus(Model, frozen=True, kw_only=True, gc=False):
    """What is known of a pod."""

    phase: str = ""
    host_ip: str = ""
    pod_ip: str = ""
    pod_ips: tuple[PodIP, ...] = ()
    conditions: tuple[PodCondition, ...] = ()


class Pod(KubeObject, frozen=True, kw_only=True, gc=False):
    """A running program; stored and read, never run."""

    api_version: str = always("v1")
    kind: str = always("Pod")
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class CustomResourceNames(Model, frozen=True, kw_only=True, gc=False):
    """The names of a custom kind."""

    plural: str = ""
    singular: str = ""
    kind: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()


class CustomResourceColumn(Model, frozen=True, kw_only=True, gc=False):
    """One column that `kubectl get` prints."""

    name: str = ""
    type: str = ""
    json_path: str = ""
    description: str = ""
    format: str = ""
    priority: int = 0


class CustomResourceVersion(Model, frozen=True, kw_only=True, gc=False):
    """One version of a custom kind; its schema stays a plain object."""

    name: str = ""
    served: bool = False
    storage: bool = False
    deprecated: bool = False
    deprecation_warning: str | None = None
    schema: JSONObject = msgspec.field(default_factory=dict)
    subresources: JSONObject = msgspec.field(default_factory=dict)
    additional_printer_columns: tuple[CustomResourceColumn, ...] = ()


class CustomResourceDefinitionSpec(Model, frozen=True, kw_only=True, gc=False):
    """What a custom kind is."""

    group: str = ""
    names: CustomResourceNames = CustomResourceNames()
    scope: str = ""
    versions: tuple[CustomResourceVersion, ...] = ()
    conversion: JSONObject = msgspec.field(default_factory=dict)
    preserve_unknown_fields: bool = False


class CustomResourceDefinitionStatus(Model, frozen=True, kw_only=True, gc=False):
    """Whether a custom kind is served."""

    accepted_names: CustomResourceNames = CustomResourceNames()
    conditions: tuple[Condition, ...] = ()
    stored_versions: tuple[str, ...] = ()


class CustomResourceDefinition(KubeObject, frozen=True, kw_only=True, gc=False):
    """The declaration of a custom kind."""

    api_version: str = always("apiextensions.k8s.io/v1")
    kind: str = always("CustomResourceDefinition")
    spec: CustomResourceDefinitionSpec = CustomResourceDefinitionSpec()
    status: CustomResourceDefinitionStatus = CustomResourceDefinitionStatus()


class WebhookService(Model, frozen=True, kw_only=True, gc=False):
    """The Service behind which a webhook is found."""

    namespace: str = ""
    name: str = ""
    path: str | None = None
    port: int | None = None


class WebhookClientConfig(Model, frozen=True, kw_only=True, gc=False):
    """How the API server reaches a webhook; `ca_bundle` is base64 of PEM."""

    url: str | None = None
    service: WebhookService | None = None
    ca_bundle: str = ""


class ValidatingWebhook(Model, frozen=True, kw_only=True, gc=False):
    """One webhook; what it is asked about is not read."""

    name: str = ""
    client_config: WebhookClientConfig = WebhookClientConfig()


class ValidatingWebhookConfiguration(KubeObject, frozen=True, kw_only=True, gc=False):
    """Which webhooks are asked before objects are stored."""

    api_version: str = always("admissionregistration.k8s.io/v1")
    kind: str = always("ValidatingWebhookConfiguration")
    webhooks: tuple[ValidatingWebhook, ...] = ()
