"""Facts of a cluster for `clarion doctor`, besides the objects that decisions read.

Each is read by itself: what these credentials may not read, or the cluster does not have, makes its
checks skipped and no others.
"""

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from clarion.base import limits
from clarion.base.ports import Clock
from clarion.decide.doctor import Unread
from clarion.decide.doctor_cluster import (
    NEEDED,
    Access,
    ClusterFacts,
    KubeProxy,
    PodFacts,
    WebhookFacts,
)
from clarion.decide.plan import Plan
from clarion.decide.snapshot import Snapshot
from clarion.edge.kubeclient import ApiError, KubeClient, NotFoundError, Selection
from clarion.model.core import ConfigMap, CustomResourceDefinition, Lease
from clarion.model.kinds import KINDS
from clarion.model.meta import ObjectKey, ObjectMeta
from clarion.model.metallb import GROUP, ServiceL2Status
from clarion.proto.kube.wire import decode_page

T = TypeVar("T")

FOREIGN: Final = (
    ("/apis/cilium.io/v2alpha1", "ciliuml2announcementpolicies", "CiliumL2AnnouncementPolicy"),
    ("/apis/cilium.io/v2alpha1", "ciliumloadbalancerippools", "CiliumLoadBalancerIPPool"),
    ("/apis/cilium.io/v2", "ciliumloadbalancerippools", "CiliumLoadBalancerIPPool"),
)
"""Objects that make another program give or announce addresses: path, plural, kind."""

_FINISHED: Final = ("Succeeded", "Failed")


class _Ipvs(msgspec.Struct, frozen=True):
    strict_arp: bool = msgspec.field(default=False, name="strictARP")


class _ProxyConfig(msgspec.Struct, frozen=True):
    """kubeproxy.config.k8s.io/v1alpha1 KubeProxyConfiguration, as far as it is read."""

    mode: str | None = None
    ipvs: _Ipvs | None = None


class _Reader:
    """Questions to one cluster."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def items(self, path: str) -> list[Any]:
        """All objects of a collection, as plain values; none where the kind is not served."""
        found: list[Any] = []
        token = ""
        while True:
            query = {"limit": str(limits.KUBE_PAGE_ITEMS)} | ({"continue": token} if token else {})
            try:
                page = decode_page(await self._client.request("GET", path, query))
            except NotFoundError:
                return []
            found += [msgspec.json.decode(raw) for raw in page.items]
            token = page.token
            if not token:
                return found

    async def pods(self) -> tuple[PodFacts, ...]:
        """Pods that have not ended."""
        return tuple(
            PodFacts(
                namespace=item["metadata"].get("namespace", ""),
                name=item["metadata"]["name"],
                node=item["spec"].get("nodeName", ""),
                images=tuple(each.get("image", "") for each in item["spec"].get("containers", ())),
            )
            for item in await self.items("/api/v1/pods")
            if item.get("status", {}).get("phase") not in _FINISHED
        )

    async def definitions(self) -> tuple[CustomResourceDefinition, ...]:
        """Those of the groups of our kinds."""
        found = await self._client.list_all(CustomResourceDefinition)
        groups = {kind.group for kind in KINDS if kind.custom}
        return tuple(item for item in found if item.spec.group in groups)

    async def webhooks(self) -> tuple[WebhookFacts, ...]:
        """Webhooks that are asked about our kinds or about services, and the conversion of ours."""
        base = "/apis/admissionregistration.k8s.io/v1"
        found: list[WebhookFacts] = []
        for plural in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations"):
            for item in await self.items(f"{base}/{plural}"):
                found += [
                    WebhookFacts(
                        configuration=item["metadata"]["name"],
                        name=hook["name"],
                        service=_service(hook["clientConfig"]),
                        fails=hook.get("failurePolicy", "Fail") == "Fail",
                    )
                    for hook in item.get("webhooks") or ()
                    if any(map(_concerns, hook.get("rules") or ()))
                ]
        for definition in await self.definitions():
            conversion = definition.spec.conversion
            if conversion.get("strategy") == "Webhook":
                service = _service(conversion.get("webhook", {}).get("clientConfig", {}))
                hook = WebhookFacts(
                    configuration=definition.name, name="conversion", service=service, fails=True
                )
                found.append(hook)
        return tuple(found)

    async def denied(self) -> tuple[Access, ...]:
        """What we may not do of what the programs must (SelfSubjectAccessReview)."""
        answers = await asyncio.gather(*map(self._may, NEEDED))
        return tuple(item for item, allowed in zip(NEEDED, answers, strict=True) if not allowed)

    async def _may(self, wanted: Access) -> bool:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "verb": wanted.verb,
                    "group": wanted.group,
                    "resource": wanted.resource,
                    "subresource": wanted.subresource,
                    "name": wanted.name,
                    "namespace": self._namespace if wanted.inside else "",
                }
            },
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        body = await self._client.request("POST", path, {}, msgspec.json.encode(review))
        return bool(msgspec.json.decode(body).get("status", {}).get("allowed"))

    async def statuses(self) -> tuple[ServiceL2Status, ...]:
        """Who says that it answers for what."""
        inside = Selection(namespace=self._namespace)
        return tuple(await self._client.list_all(ServiceL2Status, inside))

    async def kube_proxy(self) -> KubeProxy | None:
        """What kubeadm's kube-proxy is told; None where there is no such ConfigMap."""
        try:
            found = await self._client.get(ConfigMap, ObjectKey("kube-system", "kube-proxy"))
        except NotFoundError:
            return None
        try:
            told = msgspec.yaml.decode(found.data.get("config.conf", ""), type=_ProxyConfig)
        except msgspec.DecodeError:
            return None
        return KubeProxy(told.mode or "", bool(told.ipvs and told.ipvs.strict_arp))

    async def foreign(self) -> tuple[str, ...]:
        """Configuration of announcers that live inside a network plugin."""
        names: dict[str, None] = {}
        for base, plural, kind in FOREIGN:
            for item in await self.items(f"{base}/{plural}"):
                names[f"{kind} {item['metadata']['name']}"] = None
        return tuple(names)

    async def leftovers(self) -> tuple[str, ...]:
        """FRRConfigurations as MetalLB's speakers name theirs."""
        found = await self.items("/apis/frrk8s.metallb.io/v1beta1/frrconfigurations")
        names = (item["metadata"] for item in found)
        return tuple(
            f"FRRConfiguration {meta['namespace']}/{meta['name']}"
            for meta in names
            if meta["name"].startswith("metallb-")
        )

    async def skew(self, clock: Clock) -> float:
        """Seconds by which the API's clock is ahead of ours, by the age of an object not kept."""
        before = clock.now()
        probe = Lease(metadata=ObjectMeta(name="clarion-doctor", namespace=self._namespace))
        made = await self._client.create(probe, dry_run=True)
        after = clock.now()
        told = datetime.fromisoformat(made.metadata.creation_timestamp or "")
        # The API tells whole seconds: the moment lies within the second that begins there.
        if before - timedelta(seconds=1) <= told <= after:
            return 0.0
        return (told - (after if told > after else before)).total_seconds()

    async def version(self) -> str:
        """Of the API server."""
        body = await self._client.request("GET", "/version")
        return str(msgspec.json.decode(body).get("gitVersion", "unknown"))


def _concerns(rule: dict[str, Any]) -> bool:
    groups, resources = set(rule.get("apiGroups", ())), set(rule.get("resources", ()))
    services = {"services", "services/*", "services/status", "*", "*/*"}
    return bool(groups & {GROUP, "*"}) or ("" in groups and bool(resources & services))


def _service(config: dict[str, Any]) -> str:
    service = config.get("service")
    return f"{service['namespace']}/{service['name']}" if service else ""


async def _attempt(reading: Awaitable[T]) -> T | Unread:
    try:
        return await reading
    except ApiError as error:
        return Unread(error.message)


async def read_cluster(
    client: KubeClient, clock: Clock, snapshot: Snapshot, plan: Plan
) -> ClusterFacts:
    """Everything about the cluster.

    Args:
        client: How to reach it.
        clock: That of this machine.
        snapshot: The objects that decisions read.
        plan: What is decided about them.

    Raises:
        ApiError: the API does not even tell its version.
    """
    reader = _Reader(client, snapshot.options.namespace)
    version = await reader.version()
    readings: dict[str, Awaitable[Any]] = {
        "pods": reader.pods(),
        "definitions": reader.definitions(),
        "webhooks": reader.webhooks(),
        "denied": reader.denied(),
        "statuses": reader.statuses(),
        "kube_proxy": reader.kube_proxy(),
        "foreign": reader.foreign(),
        "leftovers": reader.leftovers(),
        "skew": reader.skew(clock),
    }
    found = await asyncio.gather(*map(_attempt, readings.values()))
    facts = dict(zip(readings, found, strict=True))
    return ClusterFacts(version=version, snapshot=snapshot, plan=plan, **facts)
