"""Which HTTP proxy leads to the API server: `proxy-url`, or `HTTPS_PROXY` and its like."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from clarion.edge.credentials import KubeConfigError


def check_proxy(url: str, where: str) -> str:
    """A proxy that we can use, as a URL.

    Args:
        url: As it was written; without a scheme it is an HTTP proxy, as Go reads it.
        where: What it was written in, for messages.

    Raises:
        KubeConfigError: it is no URL, or another kind of proxy.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise KubeConfigError(f"{where}: {_shown(url)} is no URL", "write http://HOST:PORT")
    if parts.scheme != "http":
        raise KubeConfigError(
            f"{where}: {parts.scheme} proxies are not supported",
            "use an http:// proxy that takes CONNECT: the connection inside is TLS all the same",
        )
    return parts.geturl()


def _shown(url: str) -> str:
    """A URL without the password that may stand in it."""
    return repr(url.rpartition("@")[2])


def environment_proxy(server: str, environ: Mapping[str, str]) -> str:
    """What the environment says about a server; empty: no proxy. Never for this machine itself.

    Raises:
        KubeConfigError: a proxy is named that cannot be used.
    """
    parts = urlsplit(server)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    if host == "localhost" or _in_network(host, "127.0.0.0/8") or host == "::1":
        return ""
    _, bypassed = _variable("NO_PROXY", environ)
    if any(_covers(entry.strip().lower(), host, port) for entry in bypassed.split(",")):
        return ""
    name, url = _variable(f"{parts.scheme.upper()}_PROXY", environ)
    return check_proxy(url, name) if url else ""


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The spelling that is set and its value; the spelling in capitals counts first."""
    found = next((one for one in (name, name.lower()) if environ.get(one)), name)
    return found, environ.get(found, "")


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of `NO_PROXY` (name, domain, network, `*`; `:port`) covers a host."""
    if entry == "*":
        return True
    if "/" in entry:
        return _in_network(host, entry)
    name, colon, wanted = entry.rpartition(":")
    if colon and wanted.isdigit() and (":" not in name or name.startswith("[")):
        if int(wanted) != port:
            return False
        entry = name
    entry = entry.strip("[]").removeprefix("*")
    if entry.startswith("."):
        return host.endswith(entry)
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


def _in_network(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
