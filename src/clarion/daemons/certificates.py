"""The webhook's certificates: made, renewed and published by the leader, shown by every replica.

They live in a Secret. The leader keeps it, and keeps the authorities in it written into the webhook
configuration and into the conversion of BGPPeer, whoever overwrites them. A Secret with a
certificate but without an authority's key is somebody else's: shown, and never written.
"""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from clarion.base import limits
from clarion.daemons.leadership import Leadership
from clarion.daemons.runtime import Runtime
from clarion.edge import metrics
from clarion.edge.chain import (
    AUTHORITY_KEY,
    Chain,
    next_chain,
    read_chain,
)
from clarion.edge.kubeclient import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    NotFoundError,
    PatchType,
    Selection,
)
from clarion.edge.reflector import Informers, Store
from clarion.edge.tls import bare_context, show
from clarion.model.core import (
    CustomResourceDefinition,
    Secret,
    ValidatingWebhookConfiguration,
)
from clarion.model.kinds import Kind
from clarion.model.meta import JSONObject, KubeObject, ObjectKey, ObjectMeta

PEERS = ObjectKey("", "bgppeers.metallb.io")
CONVERT_PATH = "/convert"


class CertificateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where certificates are kept and published.

    Attributes:
        secret: Name of the Secret, in the program's namespace.
        service: Name of the Service in front of the webhook.
        configuration: Name of the ValidatingWebhookConfiguration.
        hosts: Further names or addresses by which the webhook is reached.
    """

    secret: str
    service: str
    configuration: str
    hosts: tuple[str, ...] = ()


class Certificates:
    """Keeps the certificate that this replica shows, and as the leader what all replicas show.

    Args:
        runtime: The surroundings; Secrets of the namespace are followed in its informers.
        leadership: Whether this replica may write.
        options: Names.
    """

    def __init__(
        self, runtime: Runtime, leadership: Leadership, options: CertificateOptions
    ) -> None:
        self.context = bare_context()
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._runtime = runtime
        self._leadership = leadership
        self._options = options
        self._key = ObjectKey(runtime.namespace, options.secret)
        service = f"{options.service}.{runtime.namespace}.svc"
        self._hosts = (service, *options.hosts)
        self._log = runtime.log.bind(secret=str(self._key))
        self._wake = asyncio.Event()
        self._chain: Chain | None = None  # what is shown
        self._told = ""
        self._published = Informers(
            runtime.client, runtime.clock, runtime.entropy, self._on_published
        )
        for of, name in (
            (ValidatingWebhookConfiguration, options.configuration),
            (CustomResourceDefinition, PEERS.name),
        ):
            self._published.add(of, selection=Selection(fields=f"metadata.name={name}"))
        runtime.metrics.add(self._samples)
        runtime.checks.append(self.missing)

    def start(self) -> None:
        """Follow what is published, and keep everything in order."""
        self._published.start(self._runtime.tasks)
        self._runtime.tasks.start("certificates", self._run)

    def missing(self) -> Iterator[str]:
        """What is missing until handshakes can succeed."""
        if self._chain is None:
            yield f"no certificate in Secret {self._key} yet"

    def changed(self) -> None:
        """The Secret or the leadership may have changed."""
        self._wake.set()

    def _on_published(
        self, _kind: Kind, _key: ObjectKey, _old: KubeObject | None, _new: KubeObject | None
    ) -> None:
        self._wake.set()

    def _samples(self) -> Iterator[metrics.Sample]:
        if self._chain is not None:
            yield metrics.WEBHOOK_CERTIFICATE.sample(self._chain.server.not_after.timestamp())

    @property
    def _secrets(self) -> Store[Secret]:
        return self._runtime.informers.store(Secret)

    async def _run(self) -> None:
        await self._runtime.informers.wait_synced()
        while True:
            self._wake.clear()
            self._show()
            pause = limits.WEBHOOK_CERTIFICATE_CHECK_SECONDS
            if self._leadership.leads:
                pause = await self._keep()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    def _show(self) -> None:
        """Show what the Secret holds; without one go on with what was shown last."""
        secret = self._secrets.get(self._key)
        chain = read_chain(secret.data) if secret else None
        if chain is None or chain == self._chain:
            return
        if self._chain is None or chain.server != self._chain.server:
            show(self.context, chain.server)
            self._log.info("certificate in use", until=chain.server.not_after.isoformat())
        self._chain = chain

    # --- the leader ---

    async def _keep(self) -> float:
        """Bring Secret and bundles up to date; seconds until the next look."""
        left = self._leadership.until() - self._runtime.clock.monotonic()
        try:
            async with asyncio.timeout(min(left, limits.KUBE_REQUEST_SECONDS)):
                await self._keep_secret()
                await self._publish()
        except (ConflictError, AlreadyExistsError, NotFoundError) as error:
            self._log.debug("another was faster", error=error.message)  # the watch brings its work
            return limits.WEBHOOK_CERTIFICATE_RETRY_SECONDS
        except (ApiError, TimeoutError) as error:
            text = str(error) or "no answer in time"
            if text != self._told:
                self._log.error("the webhook's certificates cannot be kept", error=text)
            self._told = text
            return limits.WEBHOOK_CERTIFICATE_RETRY_SECONDS
        self._told = ""
        return limits.WEBHOOK_CERTIFICATE_CHECK_SECONDS

    async def _keep_secret(self) -> None:
        secret = self._secrets.get(self._key)
        data = secret.data if secret else {}
        stored = read_chain(data)
        if stored is None and data and AUTHORITY_KEY not in data:
            return  # somebody else's, and not finished
        # A Secret that was deleted asks for a new authority; clients know the old one meanwhile.
        chain = next_chain(
            stored or self._chain,
            self._hosts,
            self._runtime.clock.now(),
            published=self._is_published(stored),
            replace_authority=stored is None and self._chain is not None,
        )
        if chain == stored:
            return
        if secret is None:
            meta = ObjectMeta(name=self._key.name, namespace=self._key.namespace)
            made = Secret(metadata=meta, type="Opaque", data=chain.data())
            stored_secret = await self._runtime.client.create(made)
        else:
            patch = {
                "metadata": {"resourceVersion": secret.metadata.resource_version},
                "data": chain.data(),
            }
            stored_secret = await self._runtime.client.patch(Secret, self._key, patch)
        self._log.info("certificates written", authorities=len(chain.authorities))
        written = read_chain(stored_secret.data)
        # Clients that know no authority yet are not served: it can be shown at once.
        if written is not None and self._chain is None:
            show(self.context, written.server)
            self._chain = written

    # --- publishing ---

    def _is_published(self, chain: Chain | None) -> bool:
        """Whether all that tell API servers whom to trust name every authority of a chain."""
        if chain is None or not self._published.synced:
            return False
        return not any(self._patches(chain.bundle))

    async def _publish(self) -> None:
        secret = self._secrets.get(self._key)
        chain = (read_chain(secret.data) if secret else None) or self._chain
        if chain is None or not chain.bundle:
            return  # whoever keeps it publishes the authority too
        for of, key, how, patch in [*self._patches(chain.bundle)]:
            await self._runtime.client.patch(of, key, patch, how=how)
            self._log.info("authorities published", kind=of.__name__, object=str(key))

    def _patches(
        self, bundle: str
    ) -> Iterator[tuple[type[KubeObject], ObjectKey, PatchType, JSONObject]]:
        """The writes that publish a bundle where it is not published yet."""
        for key, found in self._published.store(ValidatingWebhookConfiguration).items():
            wrong = [hook for hook in found.webhooks if hook.client_config.ca_bundle != bundle]
            if wrong:
                hooks = [{"name": h.name, "clientConfig": {"caBundle": bundle}} for h in wrong]
                patch = _conditional(found, {"webhooks": hooks})
                yield ValidatingWebhookConfiguration, key, PatchType.STRATEGIC, patch
        for key, definition in self._published.store(CustomResourceDefinition).items():
            wanted = self._conversion(definition.spec.conversion, bundle)
            if wanted != definition.spec.conversion:
                patch = _conditional(definition, {"spec": {"conversion": wanted}})
                yield CustomResourceDefinition, key, PatchType.MERGE, patch

    def _conversion(self, present: JSONObject, bundle: str) -> JSONObject:
        """How BGPPeer is converted: by this program, wherever it is told to be found.

        Without a webhook the API server changes the name of the version only, and drops what the
        older one cannot hold.
        """
        webhook: dict[str, Any] = dict(present.get("webhook") or {})
        client: dict[str, Any] = dict(webhook.get("clientConfig") or {})
        if "url" not in client and "service" not in client:
            client["service"] = {
                "name": self._options.service,
                "namespace": self._runtime.namespace,
                "path": CONVERT_PATH,
                "port": 443,
            }
        client["caBundle"] = bundle
        webhook["clientConfig"] = client
        webhook.setdefault("conversionReviewVersions", ["v1"])
        return {"strategy": "Webhook", "webhook": webhook}


def _conditional(obj: KubeObject, patch: JSONObject) -> JSONObject:
    return {"metadata": {"resourceVersion": obj.metadata.resource_version}, **patch}
