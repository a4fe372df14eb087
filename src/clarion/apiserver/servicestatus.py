"""What may stand in the status of a Service, and what a cluster adds to it."""

from typing import Any

from clarion.apiserver.metadata import is_dns_subdomain
from clarion.apiserver.status import Cause, Json
from clarion.base.addr import parse_address
from clarion.base.errors import InvalidInputError

_MODES = ("Proxy", "VIP")
_PATH = "status.loadBalancer.ingress"


def _entries(status: Json) -> list[Json]:
    found: list[Json] = status.get("loadBalancer", {}).get("ingress", [])
    return found


def complete(kind: str, status: Json) -> None:
    """Say how each address is met: by itself (`VIP`) unless said otherwise, as Kubernetes does."""
    if kind == "LoadBalancer":
        for entry in _entries(status):
            if entry.get("ip"):
                entry.setdefault("ipMode", "VIP")


def check(kind: str, status: Json) -> list[Cause]:
    """Everything that is wrong with a status that somebody wrote."""
    entries = _entries(status)
    if entries and kind != "LoadBalancer":
        text = "Forbidden: may only be used when `spec.type` is 'LoadBalancer'"
        return [Cause(_PATH, text, "FieldValueForbidden")]
    causes = []
    for place, entry in enumerate(entries):
        causes += _check_entry(f"{_PATH}[{place}]", entry)
    return causes


def _check_entry(path: str, entry: Json) -> list[Cause]:
    causes = []
    address, host, mode = (entry.get(field, "") for field in ("ip", "hostname", "ipMode"))
    if address and not _is_address(address):
        text = f'Invalid value: "{address}": must be a valid IP address'
        causes.append(Cause(f"{path}.ip", text))
    if mode and not address:
        text = "Forbidden: may not be specified when `ip` is not set"
        causes.append(Cause(f"{path}.ipMode", text, "FieldValueForbidden"))
    elif mode and mode not in _MODES:
        choice = ", ".join(f'"{one}"' for one in _MODES)
        text = f'Unsupported value: "{mode}": supported values: {choice}'
        causes.append(Cause(f"{path}.ipMode", text, "FieldValueNotSupported"))
    if host and _is_address(host):
        text = f'Invalid value: "{host}": must be a DNS name, not an IP address'
        causes.append(Cause(f"{path}.hostname", text))
    elif host and not is_dns_subdomain(host):
        causes.append(Cause(f"{path}.hostname", f'Invalid value: "{host}": must be a DNS name'))
    return causes


def _is_address(text: Any) -> bool:
    try:
        parse_address(text)
    except InvalidInputError:
        return False
    return True
