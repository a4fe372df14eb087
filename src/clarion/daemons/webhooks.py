"""The webhooks of the controller: every replica answers, and the leader keeps what they need."""

import ipaddress
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec

from clarion.base.errors import ClarionError
from clarion.daemons.admission import JUDGED, Admission
from clarion.daemons.certificates import CONVERT_PATH, CertificateOptions, Certificates
from clarion.daemons.leadership import Leadership
from clarion.daemons.runtime import Runtime
from clarion.decide.snapshot import Options
from clarion.edge import metrics
from clarion.edge.kubeconfig import SERVICE_ACCOUNT
from clarion.edge.listen import parse_listen
from clarion.edge.webhook import Answer, start_webhook
from clarion.model.core import Secret
from clarion.model.kinds import Kind, kind_of
from clarion.model.review import convert_reviewed

IN_CLUSTER_LISTEN: Final = ":9443"


class WebhookOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Flags of the webhooks.

    Attributes:
        listen: HOST:PORT; empty: none; None: `:9443` in a Pod, else none.
        secret: Name of the Secret that keeps the certificates.
        service: Name of the Service in front of this program.
        configuration: Name of the ValidatingWebhookConfiguration.
    """

    listen: str | None = None
    secret: str = "metallb-webhook-cert"  # noqa: S105 - the name of an object
    service: str = "metallb-webhook-service"
    configuration: str = "metallb-webhook-configuration"


def validation_path(of: type) -> str:
    """The path under which objects of a kind are judged, as MetalLB's manifests have it."""
    kind = kind_of(of)
    return f"/validate-{kind.group.replace('.', '-')}-{kind.version}-{kind.singular}"


class Webhooks:
    """What the webhook server needs.

    Args:
        runtime: The surroundings.
        leadership: Whether this replica may write.
        decide: Settings that change decisions.
        options: Flags.
        listen: HOST:PORT.
    """

    def __init__(
        self,
        runtime: Runtime,
        leadership: Leadership,
        decide: Options,
        options: WebhookOptions,
        listen: str,
    ) -> None:
        self._listen = listen
        self._admission = Admission(runtime.client, runtime.informers, decide, runtime.clock)
        self.certificates = Certificates(
            runtime,
            leadership,
            CertificateOptions(
                secret=options.secret,
                service=options.service,
                configuration=options.configuration,
                hosts=_own_address(listen),
            ),
        )
        self._counts = Counter[str]()
        runtime.metrics.add(self._samples)

    def _samples(self) -> Iterator[metrics.Sample]:
        for verdict, count in sorted((self._counts + self._admission.counts).items()):
            yield metrics.WEBHOOK_REVIEWS.sample(count, verdict)

    def changed(self, kind: Kind | None) -> None:
        """Something but a service changed; None: the leadership."""
        if kind is None or kind.struct is Secret:
            self.certificates.changed()
        if kind is not None:
            self._admission.changed()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer until the end.

        Raises:
            ClarionError: the address cannot be listened on.
        """
        admit = self._counting(self._admission.review)
        answers = {validation_path(of): admit for of in JUDGED}
        answers[CONVERT_PATH] = self._counting(self._convert)
        server = await start_webhook(self._listen, answers, self.certificates.context)
        self.certificates.start()
        try:
            yield
        finally:
            await server.stop()

    def _counting(self, answer: Answer) -> Answer:
        async def answer_or_count(body: bytes) -> bytes:
            try:
                return await answer(body)
            except ClarionError:
                self._counts["failed"] += 1
                raise

        return answer_or_count

    async def _convert(self, body: bytes) -> bytes:
        reply = convert_reviewed(body)
        self._counts["converted"] += 1
        return reply


def _own_address(listen: str) -> tuple[str, ...]:
    """The address that is listened on, where it is one by which a server can be reached."""
    host, _ = parse_listen(listen)
    with suppress(ValueError):
        if not ipaddress.ip_address(host).is_unspecified:
            return (host,)
    return ()


def listen_address(options: WebhookOptions, origin: str) -> str:
    """Where to listen; empty: nowhere.

    Args:
        options: Flags.
        origin: Where the credentials for the API come from.
    """
    if options.listen is not None:
        return options.listen
    return IN_CLUSTER_LISTEN if origin == str(SERVICE_ACCOUNT) else ""
