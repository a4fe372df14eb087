"""Why no answer came from an API server, in words that name the host, the cause and the remedy."""

import errno
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import msgspec

from clarion.edge.kubeconfig import KubeConfig


class Fault(msgspec.Struct, frozen=True):
    """What failed, and what to do about it."""

    words: str
    remedy: str = ""


# X509_V_ERR_*, of OpenSSL's x509_vfy.h.
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_WRONG_NAME: Final = (62, 64)


def describe(error: BaseException, config: KubeConfig) -> Fault:
    """The reason why a request had no answer.

    Args:
        error: What was raised below.
        config: Where the request went.
    """
    origin = config.origin or "the configuration"
    server = _host_port(config.server)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        words = f"the proxy {_host_port(config.proxy)} does not let us through to {server}"
        remedy = f"see proxy-url in {origin}, HTTPS_PROXY and NO_PROXY"
        return Fault(f"{words}: {error.status} {error.message}", remedy)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        cause = _of_socket(error.os_error, _host_port(config.proxy))
        remedy = f"see proxy-url in {origin}, HTTPS_PROXY and NO_PROXY"
        return Fault(f"the proxy for {server}: {cause}", remedy)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _of_certificate(error.certificate_error, config, server, origin)
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = _of_socket(error.os_error, server)
        if isinstance(error.os_error, ssl.SSLError):
            return _of_tls(error.os_error, server, origin)
        return Fault(cause, f"does it run, and is `server` in {origin} right?")
    if isinstance(error, ssl.SSLError):
        return _of_tls(error, server, origin)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Fault(
            f"{server}: no connection in time", f"is it up, reachable, and `server` in {origin}?"
        )
    if isinstance(error, TimeoutError):
        return Fault(f"{server}: no answer in time", "the server is overloaded, or the way to it")
    reset = isinstance(error, OSError) and error.errno == errno.ECONNRESET
    if reset or isinstance(error, aiohttp.ServerDisconnectedError):
        # With TLS 1.3 a server that does not accept a certificate says so after the handshake.
        remedy = f"if it lasts: is client-certificate in {origin} one that the server accepts?"
        tls = config.server.startswith("https:")
        return Fault(
            f"{server}: the connection was closed before the answer", remedy if tls else ""
        )
    if isinstance(error, aiohttp.ClientPayloadError):
        return Fault(f"{server}: the connection was cut in the middle of the answer")
    return Fault(f"{server}: {error or type(error).__name__}")


def _host_port(url: str) -> str:
    """`HOST:PORT` of a URL, without the password that may stand in it."""
    parts = urlsplit(url)
    host = parts.hostname or "?"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _of_socket(error: OSError, where: str) -> str:
    if isinstance(error, socket.gaierror):
        return f"{where}: the name cannot be resolved: {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return f"{where}: connection refused"
    # asyncio's own text repeats the address, as a tuple.
    text = error.strerror or str(error)
    return f"{where}: {text.partition(' [')[0]}"


def _of_certificate(error: Exception, config: KubeConfig, server: str, origin: str) -> Fault:
    code = getattr(error, "verify_code", 0)
    told = getattr(error, "verify_message", "") or str(error)
    name = config.server_name or urlsplit(config.server).hostname
    if code == _EXPIRED:
        return Fault(f"{server}: the server's certificate has expired", "renew it on the server")
    if code == _NOT_YET_VALID:
        return Fault(f"{server}: the server's certificate is not valid yet", "compare the clocks")
    if code in _WRONG_NAME:
        return Fault(
            f"{server}: the server's certificate is not for {name}",
            f"use a name that it is for in `server`, or tls-server-name, in {origin}",
        )
    return Fault(
        f"{server}: the server's certificate is not trusted: {told}",
        f"certificate-authority in {origin} is not the one that signed it",
    )


def _of_tls(error: ssl.SSLError, server: str, origin: str) -> Fault:
    reason = (error.reason or str(error)).lower().replace("_", " ")
    if "alert" in reason:
        return Fault(
            f"{server}: the server does not accept our client certificate: {reason}",
            f"see client-certificate in {origin}: is it of this cluster, and not expired?",
        )
    if "wrong version number" in reason or "http request" in reason:
        return Fault(f"{server}: the server speaks no TLS", f"is `server` in {origin} right?")
    return Fault(f"{server}: TLS failed: {reason}")
