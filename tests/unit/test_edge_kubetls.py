"""TLS to the API server: who it is, who we are, and what is said when either does not hold."""

import asyncio
import gc
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from clarion.edge import kubeclient as k
from clarion.edge.clock import SystemClock
from clarion.edge.credentials import Given, Identity, Replaced, StaticCredentials
from clarion.edge.kubeconfig import KubeConfig
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

    def issue(
        self, name: str, start: datetime = START, life: timedelta = timedelta(days=9999)
    ) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        signed = self._sign(subject, key, dns=name, start=start, life=life)
        return Identity(certificate=signed, key=private)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        dns: str = "",
        start: datetime = START,
        life: timedelta = timedelta(days=9999),
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + life)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if dns:
            names = x509.SubjectAlternativeName([x509.DNSName(dns)])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


OURS, THEIRS = Authority("ours"), Authority("theirs")
SERVER = OURS.issue("kubernetes.example")


def server_side(directory: Path, certificate: Identity = SERVER) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=OURS.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    chain = directory / "server.pem"
    chain.write_bytes(certificate.certificate + certificate.key)
    context.load_cert_chain(chain)
    return context


def ask(
    directory: Path,
    identity: Identity,
    *,
    ca: bytes = OURS.pem,
    server_name: str = "kubernetes.example",
    insecure: bool = False,
    certificate: Identity = SERVER,
) -> str:
    async def main() -> str:
        async with ScriptedServer(server_side(directory, certificate)) as server:
            server.script(reply({"metadata": {"name": "web"}}))
            config = KubeConfig(
                server.url,
                StaticCredentials(identity),
                ca=Given(ca),
                server_name=server_name,
                insecure=insecure,
            )
            async with k.KubeClient(config) as client:
                return (await client.get(Service, KEY)).name

    return asyncio.run(main())


def test_both_sides_show_certificates(tmp_path: Path) -> None:
    assert ask(tmp_path, OURS.issue("speaker")) == "web"


def test_no_socket_outlives_the_client_although_the_server_says_no_goodbye(tmp_path: Path) -> None:
    body = b'{"metadata": {"name": "web"}}'
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        plain, _ = listener.accept()
        with server_side(tmp_path).wrap_socket(plain, server_side=True) as connection:
            connection.recv(1 << 16)
            connection.sendall(head + body)
            over.wait(30)

    async def main(url: str) -> None:
        me = StaticCredentials(OURS.issue("speaker"))
        config = KubeConfig(url, me, ca=Given(OURS.pem), server_name="kubernetes.example")
        async with k.KubeClient(config) as client:
            await client.get(Service, KEY)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            asyncio.run(main(f"https://127.0.0.1:{listener.getsockname()[1]}"))
        finally:
            over.set()
            thread.join()
    gc.collect()  # what is left open is told of here, and fails the test


def test_without_verification_the_servers_name_does_not_matter(tmp_path: Path) -> None:
    me = OURS.issue("speaker")
    assert ask(tmp_path, me, ca=THEIRS.pem, server_name="", insecure=True) == "web"


@pytest.mark.parametrize(
    ("ca", "server_name", "words"),
    [
        (THEIRS.pem, "kubernetes.example", "not trusted: self-signed certificate in certificate"),
        (OURS.pem, "other.example", "is not for other.example .*tls-server-name"),
        (OURS.pem, "", "is not for 127.0.0.1 "),
    ],
)
def test_a_server_that_is_somebody_else(
    tmp_path: Path, ca: bytes, server_name: str, words: str
) -> None:
    with pytest.raises(k.UnreachableError, match=words):
        ask(tmp_path, OURS.issue("speaker"), ca=ca, server_name=server_name)


@pytest.mark.parametrize(
    ("start", "words"),
    [(START - timedelta(days=99), "has expired"), (START + timedelta(days=9e4), "not valid yet")],
)
def test_a_certificate_of_another_time(tmp_path: Path, start: datetime, words: str) -> None:
    certificate = OURS.issue("kubernetes.example", start, timedelta(days=9))
    with pytest.raises(k.UnreachableError, match=words):
        ask(tmp_path, OURS.issue("speaker"), certificate=certificate)


@pytest.mark.parametrize("identity", [Identity(), THEIRS.issue("speaker")])
def test_a_server_that_does_not_know_us(tmp_path: Path, identity: Identity) -> None:
    with pytest.raises(k.UnreachableError, match=r"closed before the answer .*client-certificate"):
        ask(tmp_path, identity)


def test_a_server_without_tls() -> None:
    async def main() -> None:
        async with ScriptedServer() as server:
            url = server.url.replace("http:", "https:")
            async with k.KubeClient(KubeConfig(url, StaticCredentials(Identity()))) as client:
                with pytest.raises(k.UnreachableError, match="speaks no TLS"):
                    await client.get(Service, KEY)

    asyncio.run(main())


def test_an_authority_that_was_replaced_is_read_again_when_the_server_is_not_trusted(
    tmp_path: Path,
) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_bytes(THEIRS.pem)

    async def main() -> None:
        async with ScriptedServer(server_side(tmp_path)) as server:
            server.script(reply({"metadata": {"name": "web"}}))
            config = KubeConfig(
                server.url,
                StaticCredentials(OURS.issue("speaker")),
                ca=Replaced(authority, "ca", SystemClock()),
                server_name="kubernetes.example",
            )
            async with k.KubeClient(config) as client:
                with pytest.raises(k.UnreachableError, match="not trusted"):
                    await client.get(Service, KEY)
                authority.write_bytes(OURS.pem)
                assert (await client.get(Service, KEY)).name == "web"

    asyncio.run(main())


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A proxy that connects to the port asked for, on this machine, if the host is allowed."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    asked = head.split()[1]
    if head.split()[0] != "CONNECT" or not asked.startswith("kubernetes.example:"):
        writer.write(b"HTTP/1.1 403 Not from here\r\n\r\n")
        writer.close()
        return
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    back, forth = await asyncio.open_connection("127.0.0.1", int(asked.rpartition(":")[2]))

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            target.write(data)
        target.close()

    await asyncio.gather(copy(reader, forth), copy(back, writer))


@pytest.mark.parametrize("host", ["kubernetes.example", "other.example"])
def test_through_a_proxy_the_server_is_still_checked_by_name(tmp_path: Path, host: str) -> None:
    async def main() -> str:
        async with (
            ScriptedServer(server_side(tmp_path)) as server,
            await asyncio.start_server(tunnel, "127.0.0.1", 0) as proxy,
        ):
            server.script(reply({"metadata": {"name": "web"}}))
            config = KubeConfig(
                f"https://{host}:{server.port}",
                StaticCredentials(OURS.issue("speaker")),
                ca=Given(OURS.pem),
                proxy=f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}",
            )
            async with k.KubeClient(config) as client:
                return (await client.get(Service, KEY)).name

    if host == "kubernetes.example":
        assert asyncio.run(main()) == "web"
    else:
        with pytest.raises(k.UnreachableError, match="does not let us through to other"):
            asyncio.run(main())
