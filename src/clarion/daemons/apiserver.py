"""The embedded API as a program: listener, certificates, kubeconfig, clean stop.

On loopback it speaks plain HTTP without credentials, like any local tool. On any other address it
speaks TLS under its own authority and asks for a bearer token; both are made once, kept in the
data directory, and handed to users in the kubeconfig. `--secure` does that on loopback too.
"""

import asyncio
import base64
import ipaddress
import os
import socket
import ssl
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
from aiohttp import web

from clarion.apiserver.http import ServerSettings, create_app
from clarion.base.errors import ClarionError
from clarion.base.ports import Clock, Entropy
from clarion.edge import tls
from clarion.edge.clock import SystemClock, SystemEntropy
from clarion.edge.listen import cannot_listen, parse_listen
from clarion.edge.logs import Log, LogLevel, setup_logging
from clarion.edge.tasks import StopSignals
from clarion.model.codec import dump_yaml

_TOKEN_LENGTH = 43  # of 27 letters: over 200 bits
_RENEW_BEFORE = timedelta(days=30)
_STOP_SECONDS = 2.0

_log = Log("apiserver")


class ApiServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Flags of the program.

    Attributes:
        listen: HOST:PORT; port 0 takes a free one, which the kubeconfig then names.
        write_kubeconfig: File for users, written when the server takes requests; empty: none.
        secure: Ask for TLS and the token on loopback too, where other users share the machine.
        hosts: Further names and addresses that the certificate shall be good for.
    """

    data_dir: Path
    listen: str = "127.0.0.1:6480"
    write_kubeconfig: str = ""
    service_network: str = ServerSettings(Path()).service_network
    compact_seconds: float = ServerSettings(Path()).compact_seconds
    bookmark_seconds: float = ServerSettings(Path()).bookmark_seconds
    secure: bool = False
    hosts: tuple[str, ...] = ()
    log_level: LogLevel = LogLevel.INFO


class _Credentials(msgspec.Struct, frozen=True):
    """What a server beyond loopback needs; empty on loopback."""

    token: str = ""
    authority: bytes = b""
    context: ssl.SSLContext | None = None


async def run_apiserver(options: ApiServerOptions) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ClarionError: the address, the data directory or the kubeconfig cannot be used.
    """
    setup_logging(options.log_level)
    clock, entropy = SystemClock(), SystemEntropy()
    host, _ = parse_listen(options.listen)
    _make_directory(options.data_dir)
    open_to_all = _is_loopback(host) and not options.secure
    secured = _Credentials() if open_to_all else _credentials(options, host, clock, entropy)
    settings = ServerSettings(
        data_dir=options.data_dir,
        service_network=options.service_network,
        token=secured.token,
        compact_seconds=options.compact_seconds,
        bookmark_seconds=options.bookmark_seconds,
    )
    # A watcher that goes away must be noticed before the next change is written to it.
    runner = web.AppRunner(
        create_app(settings, clock, entropy),
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=_STOP_SECONDS,
    )
    with StopSignals() as stop:
        await runner.setup()
        try:
            bound = await _listen(runner, options.listen, secured.context)
            url = _url(host, bound, secure=secured.context is not None)
            if options.write_kubeconfig:
                text = dump_yaml([kubeconfig(url, secured.token, secured.authority)])
                _write_private(Path(options.write_kubeconfig), text.encode())
            _log.info("serving", url=url, data=str(options.data_dir))
            await stop.wait()
        finally:
            await runner.cleanup()


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ClarionError(
            f"{path} cannot be made: {error.strerror}", "give another --data-dir"
        ) from None


async def _listen(runner: web.AppRunner, listen: str, context: ssl.SSLContext | None) -> int:
    """Listen, and tell on which port."""
    host, port = parse_listen(listen)
    site = web.TCPSite(runner, host or None, port, ssl_context=context)
    try:
        await site.start()
    except OSError as error:
        raise cannot_listen(listen, error, "--listen") from None
    addresses = runner.addresses
    assert addresses, "the site has started"
    return int(addresses[0][1])


def _is_loopback(host: str) -> bool:
    """Whether every address that the host stands for is on loopback.

    Raises:
        ClarionError: the name cannot be resolved.
    """
    if not host:
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ClarionError(f"{host} cannot be resolved: {error}", "give an IP address") from None
    return all(ipaddress.ip_address(row[4][0]).is_loopback for row in found)


def _url(host: str, port: int, *, secure: bool) -> str:
    """The address under which users reach the server; a wildcard is reached over loopback."""
    name = host or "127.0.0.1"
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return f"{'https' if secure else 'http'}://{name}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
    shown = f"[{address}]" if address.version == 6 else str(address)
    return f"{'https' if secure else 'http'}://{shown}:{port}"


def _credentials(
    options: ApiServerOptions, host: str, clock: Clock, entropy: Entropy
) -> _Credentials:
    """Token and certificates, as kept from an earlier start or made now."""
    directory = options.data_dir / "credentials"
    _make_directory(directory)
    token_file = directory / "token"
    if not token_file.exists():
        _write_private(token_file, entropy.token(_TOKEN_LENGTH).encode())
    hosts = _certificate_hosts(host, options.hosts)
    now = clock.now()
    authority = _read_pair(directory, "ca")
    if authority is None or authority.not_after < now + _RENEW_BEFORE:
        authority = tls.make_authority("clarion embedded API", now)
        _write_pair(directory, "ca", authority)
        (directory / "server.crt").unlink(missing_ok=True)
    server = _read_pair(directory, "server")
    if (
        server is None
        or server.not_after < now + _RENEW_BEFORE
        or not server.names.issuperset(hosts)
    ):
        server = tls.make_server(authority, hosts, now)
        _write_pair(directory, "server", server)
    return _Credentials(
        token_file.read_text().strip(), authority.certificate, tls.server_context(server)
    )


def _certificate_hosts(host: str, more: Sequence[str]) -> list[str]:
    hosts = [host] if host else []
    for name in (*more, "localhost", "127.0.0.1", "::1", socket.gethostname()):
        if name not in hosts:
            hosts.append(name)
    return hosts


def _read_pair(directory: Path, name: str) -> tls.KeyPair | None:
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    if not (certificate.exists() and key.exists()):
        return None
    return tls.KeyPair(certificate.read_bytes(), key.read_bytes())


def _write_pair(directory: Path, name: str, pair: tls.KeyPair) -> None:
    _write_private(directory / f"{name}.key", pair.key)
    _write_private(directory / f"{name}.crt", pair.certificate)


def kubeconfig(url: str, token: str, authority: bytes) -> dict[str, object]:
    """The file that kubectl and Clarion's own programs read."""
    cluster: dict[str, object] = {"server": url}
    if authority:
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "clarion", "cluster": cluster}],
        "users": [{"name": "clarion", "user": {"token": token} if token else {}}],
        "contexts": [
            {"name": "clarion", "context": {"cluster": "clarion", "user": "clarion"}},
        ],
        "current-context": "clarion",
    }


def _write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, whole or not at all.

    Raises:
        ClarionError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ClarionError(f"{path} cannot be written: {error.strerror}") from None


def main(options: ApiServerOptions) -> None:
    """Run the server in a loop of its own."""
    asyncio.run(run_apiserver(options))
