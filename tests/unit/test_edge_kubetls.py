"""TLS to the API server: who it is, who we are, and what is said when either does not hold."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from clarion.edge import kubeclient as k
from clarion.edge.kubeconfig import Identity, KubeConfig, StaticCredentials
from clarion.model.core import Service
from clarion.model.meta import ObjectKey
from clarion.testing.scripted import ScriptedServer, reply

KEY = ObjectKey("default", "web")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Authority:
    """A CA without key identifiers, as clusters of old have them."""

    def __init__(self, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self.pem = self._sign(self.name, self.key, ca=True)

    def issue(self, name: str) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Identity(certificate=self._sign(subject, key, dns=name), key=private)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        dns: str = "",
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(START)
            .not_valid_after(START + timedelta(days=9999))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if dns:
            names = x509.SubjectAlternativeName([x509.DNSName(dns)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


OURS, THEIRS = Authority("ours"), Authority("theirs")
SERVER = OURS.issue("kubernetes.example")


def server_side(directory: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=OURS.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    chain = directory / "server.pem"
    chain.write_bytes(SERVER.certificate + SERVER.key)
    context.load_cert_chain(chain)
    return context


def ask(
    directory: Path,
    identity: Identity,
    *,
    ca: bytes = OURS.pem,
    server_name: str = "kubernetes.example",
    insecure: bool = False,
) -> str:
    async def main() -> str:
        async with ScriptedServer(server_side(directory)) as server:
            server.script(reply({"metadata": {"name": "web"}}))
            config = KubeConfig(
                server.url,
                StaticCredentials(identity),
                ca=ca,
                server_name=server_name,
                insecure=insecure,
            )
            async with k.KubeClient(config) as client:
                return (await client.get(Service, KEY)).name

    return asyncio.run(main())


def test_both_sides_show_certificates(tmp_path: Path) -> None:
    assert ask(tmp_path, OURS.issue("speaker")) == "web"


def test_without_verification_the_servers_name_does_not_matter(tmp_path: Path) -> None:
    me = OURS.issue("speaker")
    assert ask(tmp_path, me, ca=THEIRS.pem, server_name="", insecure=True) == "web"


@pytest.mark.parametrize(
    ("ca", "server_name", "words"),
    [
        (THEIRS.pem, "kubernetes.example", "CERTIFICATE_VERIFY_FAILED"),
        (OURS.pem, "other.example", "not valid for 'other.example'"),
        (OURS.pem, "", "127.0.0.1"),
    ],
)
def test_a_server_that_is_somebody_else(
    tmp_path: Path, ca: bytes, server_name: str, words: str
) -> None:
    with pytest.raises(k.UnreachableError, match=words):
        ask(tmp_path, OURS.issue("speaker"), ca=ca, server_name=server_name)


@pytest.mark.parametrize("identity", [Identity(), THEIRS.issue("speaker")])
def test_a_server_that_does_not_know_us(tmp_path: Path, identity: Identity) -> None:
    with pytest.raises(k.UnreachableError):
        ask(tmp_path, identity)
