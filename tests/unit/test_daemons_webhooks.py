"""The webhook server and what keeps it: bodies, certificates, secrets, bundles."""

import asyncio
import base64
import io
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from clarion.base import limits
from clarion.daemons.memberlist import MemberlistSecret
from clarion.daemons.webhooks import WebhookOptions, Webhooks, listen_address
from clarion.decide.snapshot import Options
from clarion.edge.chain import next_chain, read_chain
from clarion.edge.kubeclient import ForbiddenError
from clarion.edge.kubeconfig import SERVICE_ACCOUNT
from clarion.model.core import (
    CustomResourceDefinition,
    CustomResourceDefinitionSpec,
    Secret,
    ValidatingWebhook,
    ValidatingWebhookConfiguration,
    WebhookClientConfig,
)
from clarion.model.kinds import kind_of
from clarion.model.meta import KubeObject, ObjectKey, ObjectMeta
from clarion.testing.apiprocess import free_port

from .daemons_kit import SYSTEM, World, run, until

SECRET = ObjectKey(SYSTEM, "metallb-webhook-cert")
HOOKS = ObjectKey("", "metallb-webhook-configuration")
PEERS = ObjectKey("", "bgppeers.metallb.io")
SERVICE = "metallb-webhook-service.metallb-system.svc"


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WEBHOOK_CERTIFICATE_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(limits, "MEMBERLIST_SECRET_LOOK_SECONDS", 0.01)


class Serving(World):
    """A controller that leads, with its webhooks, beside an API in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()
        self.webhooks = Webhooks(
            self.runtime,
            self.controller.leadership,
            Options(namespace=SYSTEM),
            WebhookOptions(),
            f"127.0.0.1:{self.port}",
        )
        self.certificates = self.webhooks.certificates
        self.controller.on_change.append(self.webhooks.changed)

    def deliver(self) -> None:
        """The watches bring what changed."""

        def tell(of: type[KubeObject], key: ObjectKey, obj: KubeObject | None) -> None:
            self.see(of, key, obj)
            found = self.certificates._published._reflectors.get(kind_of(of))
            if found is not None:
                found._put(key, obj) if obj is not None else found._drop(key)

        self.client.deliver(tell)

    def install(self) -> None:
        """What manifests bring."""
        client = WebhookClientConfig(url="https://192.0.2.1/validate")
        hook = ValidatingWebhook(name="one.metallb.io", client_config=client)
        self.client.put(
            ValidatingWebhookConfiguration(metadata=ObjectMeta(name=HOOKS.name), webhooks=(hook,))
        )
        self.client.put(
            CustomResourceDefinition(
                metadata=ObjectMeta(name=PEERS.name),
                spec=CustomResourceDefinitionSpec(conversion={"strategy": "None"}),
            )
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All of it but the reflectors, whose part `deliver` plays."""
        self.deliver()
        kept = self.certificates._published._reflectors
        for reflector in (*self.runtime.informers._reflectors.values(), *kept.values()):
            reflector.synced.set()
        self.certificates._published._reflectors = {}

        async def watch() -> None:
            while True:
                self.deliver()
                await asyncio.sleep(0)

        async with self.runtime.tasks, self.webhooks.serving():
            self.certificates._published._reflectors = kept
            self.runtime.tasks.start("watch", watch)
            yield

    @property
    def bundle(self) -> str:
        hooks = self.client.read(ValidatingWebhookConfiguration, HOOKS).webhooks
        return hooks[0].client_config.ca_bundle

    @property
    def conversion(self) -> dict[str, object]:
        return self.client.read(CustomResourceDefinition, PEERS).spec.conversion

    async def post(self, path: str, body: bytes, bundle: str) -> tuple[int, str]:
        """What the API server would see, with this bundle as all that it trusts."""
        trust = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"https://127.0.0.1:{self.port}{path}", data=io.BytesIO(body), ssl=trust
            ) as answer,
        ):
            return answer.status, await answer.text()


def test_certificates_are_made_published_and_shown() -> None:
    async def play() -> None:
        world = Serving()
        world.install()
        assert list(world.runtime.not_ready())
        async with world.running():
            await until(lambda: world.bundle)
            chain = read_chain(world.client.read(Secret, SECRET).data)
            assert chain is not None
            assert world.bundle == chain.bundle
            webhook = world.conversion["webhook"]
            assert world.conversion["strategy"] == "Webhook"
            assert isinstance(webhook, dict)
            assert webhook["conversionReviewVersions"] == ["v1"]
            assert webhook["clientConfig"] == {
                "caBundle": chain.bundle,
                "service": {
                    "name": "metallb-webhook-service",
                    "namespace": SYSTEM,
                    "path": "/convert",
                    "port": 443,
                },
            }
            assert SERVICE in chain.server.names
            status, text = await world.post("/convert", b"{}", world.bundle)
            assert (status, text.strip()) == (400, "the ConversionReview holds no request")
            assert list(world.runtime.not_ready()) == []
            await until(lambda: not world.client._changed)
            writes = len(world.client.calls)
            world.certificates.changed()
            for _ in range(50):
                await asyncio.sleep(0)
            assert len(world.client.calls) == writes, "nothing is written twice"

    run(play)


def test_a_deleted_secret_brings_a_new_authority_beside_the_old_one() -> None:
    async def play() -> None:
        world = Serving()
        world.install()
        async with world.running():
            await until(lambda: world.bundle)
            before = world.bundle
            shown = world.client.read(Secret, SECRET).data["tls.crt"]
            world.client.drop(Secret, SECRET)
            await until(lambda: world.bundle != before)
            again = world.client.read(Secret, SECRET).data
            assert again["tls.crt"] == shown, "shown until all know the new authority"
            for bundle in (before, world.bundle):
                assert (await world.post("/convert", b"{}", bundle))[0] == 400
            world.clock.at += limits.WEBHOOK_AUTHORITY_SETTLE_SECONDS
            world.certificates.changed()
            await until(lambda: world.client.read(Secret, SECRET).data["tls.crt"] != shown)
            assert (await world.post("/convert", b"{}", world.bundle))[0] == 400
            both = base64.b64decode(world.bundle)
            world.clock.at += limits.WEBHOOK_AUTHORITY_OVERLAP_SECONDS
            world.certificates.changed()
            await until(lambda: base64.b64decode(world.bundle) != both)
            assert both.startswith(base64.b64decode(world.bundle))

    run(play)


def test_a_connection_that_is_open_outlives_the_certificate_that_it_began_with() -> None:
    async def play() -> None:
        world = Serving()
        world.install()
        async with world.running():
            await until(lambda: world.bundle)
            trust = ssl.create_default_context(cadata=base64.b64decode(world.bundle).decode())
            shown = world.client.read(Secret, SECRET).data["tls.crt"]
            port = world.port
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)

            async def ask() -> bytes:
                writer.write(b"POST /convert HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readuntil(b"\n")
                return head.split(b"\r\n")[0]

            assert await ask() == b"HTTP/1.1 400 Bad Request"
            world.clock.at += 300 * 86_400
            world.certificates.changed()
            await until(lambda: world.client.read(Secret, SECRET).data["tls.crt"] != shown)
            assert await ask() == b"HTTP/1.1 400 Bad Request"
            writer.close()
            await writer.wait_closed()

    run(play)


def test_somebody_elses_secret_is_shown_and_not_written() -> None:
    async def play() -> None:
        world = Serving()
        world.install()
        chain = next_chain(None, ("127.0.0.1",), world.clock.now(), published=False)
        data = {name: text for name, text in chain.data().items() if name != "ca.key"}
        meta = ObjectMeta(name=SECRET.name, namespace=SYSTEM)
        world.client.put(Secret(metadata=meta, data={"tls.crt": "", "tls.key": ""}))
        async with world.running():
            for _ in range(50):
                await asyncio.sleep(0)
            assert world.client.calls == [], "not finished, and not ours"
            world.client.change(Secret, SECRET, {"data": data})
            await until(lambda: world.bundle == chain.bundle)
            world.clock.at += 1000 * 86_400
            world.certificates.changed()
            for _ in range(50):
                await asyncio.sleep(0)
            assert world.client.read(Secret, SECRET).data == data
            assert (await world.post("/convert", b"{}", chain.bundle))[0] == 400

    run(play)


def test_an_empty_secret_as_manifests_bring_it_is_filled() -> None:
    async def play() -> None:
        world = Serving()
        world.client.put(Secret(metadata=ObjectMeta(name=SECRET.name, namespace=SYSTEM)))
        async with world.running():
            await until(lambda: world.client.read(Secret, SECRET).data)
            assert read_chain(world.client.read(Secret, SECRET).data) is not None

    run(play)


def test_a_refusal_to_write_is_tried_again() -> None:
    async def play() -> None:
        world = Serving()
        world.client.refusals.extend([ForbiddenError(403, "Forbidden", "no")] * 3)
        async with world.running():
            await until(lambda: (Secret, SECRET) in world.client.objects)
            assert list(world.runtime.not_ready()) == []

    run(play)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/convert", b"no json", 400),
        ("/validate-metallb-io-v1beta1-ipaddresspool", b"{}", 400),
        ("/validate-metallb-io-v1beta2-bgppeer", b'{"request": 1}', 400),
        ("/convert", b" " * (limits.WEBHOOK_BODY_BYTES + 1), 413),
        ("/other", b"{}", 404),
    ],
)
def test_what_is_no_review_is_refused_with_a_status(path: str, body: bytes, status: int) -> None:
    async def play() -> None:
        world = Serving()
        world.install()
        async with world.running():
            await until(lambda: world.bundle)
            assert (await world.post(path, body, world.bundle))[0] == status

    run(play)


def test_reviews_are_answered_and_counted() -> None:
    async def play() -> None:
        world = Serving()
        world.install()
        old = {
            "apiVersion": "metallb.io/v1beta1",
            "kind": "BGPPeer",
            "metadata": {"name": "tor"},
            "spec": {"myASN": 64500},
        }
        request = {"uid": "u", "desiredAPIVersion": "metallb.io/v1beta2", "objects": [old, old]}
        review = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "ConversionReview",
            "request": request,
        }
        async with world.running():
            await until(lambda: world.bundle)
            _, text = await world.post("/convert", json.dumps(review).encode(), world.bundle)
            response = json.loads(text)["response"]
            assert response["result"] == {"status": "Success"}
            assert response["uid"] == "u"
            assert [peer["apiVersion"] for peer in response["convertedObjects"]] == [
                "metallb.io/v1beta2"
            ] * 2
            review["request"] = {**request, "desiredAPIVersion": "metallb.io/v9"}
            _, text = await world.post("/convert", json.dumps(review).encode(), world.bundle)
            response = json.loads(text)["response"]
            assert response["result"]["status"] == "Failure"
            assert "v9" in response["result"]["message"]
            await world.post("/convert", b"{}", world.bundle)
            rendered = world.runtime.metrics.render().decode()
            assert 'clarion_webhook_reviews_total{verdict="converted"} 2.0' in rendered
            assert 'clarion_webhook_reviews_total{verdict="failed"} 1.0' in rendered
            assert "clarion_webhook_certificate_expiry_seconds" in rendered

    run(play)


def test_webhooks_are_served_in_a_pod_unless_told_otherwise() -> None:
    pod, laptop = str(SERVICE_ACCOUNT), "/etc/clarion/kubeconfig"
    assert listen_address(WebhookOptions(), pod) == ":9443"
    assert listen_address(WebhookOptions(), laptop) == ""
    assert listen_address(WebhookOptions(listen=""), pod) == ""
    assert listen_address(WebhookOptions(listen=":1"), laptop) == ":1"


def test_the_secret_of_the_member_list_is_made_once_and_kept() -> None:
    async def play() -> None:
        world = World()
        for reflector in world.runtime.informers._reflectors.values():
            reflector.synced.set()
        world.client.refusals.append(ForbiddenError(403, "Forbidden", "no"))
        key = ObjectKey(SYSTEM, "memberlist")
        secret = MemberlistSecret(world.runtime, world.controller.leadership, key.name)
        task = asyncio.create_task(secret.run())
        await until(lambda: (Secret, key) in world.client.objects)
        made = world.client.read(Secret, key).data
        text = base64.b64decode(made["secretkey"]).decode()
        assert len(base64.b64decode(text + "==")) == 16
        world.client.deliver(world.see)
        await until(lambda: key in world.runtime.informers.store(Secret))
        writes = len(world.client.calls)
        await asyncio.sleep(0.05)
        assert len(world.client.calls) == writes
        task.cancel()
        await asyncio.wait([task])

    run(play)
