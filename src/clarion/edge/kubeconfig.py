"""Where the API server is and who we are to it: in-cluster, and kubeconfig files.

<https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>; where that page leaves a choice,
kubectl's is taken.
"""

import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import yaml

from clarion.base.ports import Clock
from clarion.edge.credentials import (
    Credentials,
    FileCredentials,
    Given,
    Identity,
    KubeConfigError,
    Material,
    Replaced,
)
from clarion.edge.execplugin import ExecConfig, ExecPlugin, check_plugin
from clarion.edge.proxies import check_proxy, environment_proxy

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_MOUNT = "set automountServiceAccountToken for the Pod"
_EXEC_EXTENSION = "client.authentication.k8s.io/exec"


class KubeConfig(msgspec.Struct, frozen=True):
    """How to reach one API server as one user.

    Attributes:
        ca: Certificates (PEM) of the authorities that the server's must be signed by; empty: the
            system's.
        insecure: Whether the server may be anybody.
        server_name: Checked in the server's certificate instead of the host in `server`.
        headers: Sent with every request: whom to impersonate.
        origin: The file that this was read from.
    """

    server: str
    credentials: Credentials
    namespace: str = "default"
    ca: Material = Given()
    insecure: bool = False
    server_name: str = ""
    proxy: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    origin: str = ""

    def ssl_context(self, identity: Identity) -> ssl.SSLContext | None:
        """The TLS side of this configuration for an identity; None for plain HTTP."""
        if not self.server.startswith("https:"):
            return None
        try:
            context = ssl.create_default_context(cadata=self.ca.read().decode("ascii") or None)
        except (ssl.SSLError, UnicodeDecodeError, ValueError) as error:
            raise KubeConfigError(
                f"{self.origin}: certificate-authority holds no PEM: {error}"
            ) from error
        # Certificates of clusters are often made without key identifiers, which the strict
        # reading of RFC 5280 (the default of newer Pythons) refuses.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if identity.certificate:
            # The ssl module loads a key from files only; the directory is ours alone (0700).
            with tempfile.TemporaryDirectory(prefix="clarion-") as directory:
                pair = Path(directory, "pair.pem")
                pair.write_bytes(identity.certificate + b"\n" + identity.key)
                try:
                    context.load_cert_chain(pair)
                except ssl.SSLError as error:
                    raise KubeConfigError(
                        f"{self.origin}: client-certificate and client-key are no pair: {error}"
                    ) from error
        return context


# --- kubeconfig files -----------------------------------------------------------------------


class _Extension(msgspec.Struct, frozen=True):
    name: str
    extension: Any = None


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    disable_compression: bool = False
    extensions: list[_Extension] | None = None


class _User(msgspec.Struct, frozen=True, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    username: str = ""
    password: str = ""
    exec: ExecConfig | None = None
    auth_provider: Any = None
    as_name: str = msgspec.field(name="as", default="")
    as_uid: str = ""
    as_groups: list[str] | None = None
    as_user_extra: dict[str, list[str]] | None = None


class _Context(msgspec.Struct, frozen=True):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(msgspec.Struct, frozen=True):
    name: str
    cluster: _Cluster


class _NamedUser(msgspec.Struct, frozen=True):
    name: str
    user: _User | None = None


class _NamedContext(msgspec.Struct, frozen=True):
    name: str
    context: _Context


class _File(msgspec.Struct, frozen=True, rename="kebab"):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str = ""


_Files = list[tuple[Path, _File]]


class _Place(msgspec.Struct, frozen=True):
    """Where a row stands: the file, and the row in words."""

    path: Path
    row: str

    def __str__(self) -> str:
        return f"{self.path}: {self.row}"

    def beside(self, file: str) -> Path:
        """A path in the row, which is relative to the file."""
        return self.path.parent / file


def load_kubeconfig(
    paths: list[Path], clock: Clock, *, context: str = "", environ: Mapping[str, str] = os.environ
) -> KubeConfig:
    """Read kubeconfig files, merged as kubectl merges them: the first to name a thing wins.

    Args:
        paths: The files; those that are absent are passed over unless all are.
        clock: For the age of what is read from other files.
        context: Which context; by default `current-context`.
        environ: Where proxies are named.

    Raises:
        KubeConfigError: no such file, context, cluster or user, or a field cannot be used.
    """
    files = [(path, _read(path)) for path in paths if path.exists()]
    if not files:
        raise KubeConfigError(f"{', '.join(map(str, paths))}: no such file")
    named = context or next((file.current_context for _, file in files if file.current_context), "")
    if not named:
        known = _names(files, "contexts")
        raise KubeConfigError(f"{files[0][0]}: current-context is empty", f"set it to {known}")
    place, row = _pick(files, "contexts", named)
    chosen: _Context = row.context
    at, cluster = _pick(files, "clusters", chosen.cluster, f"{place}.cluster: ")
    user_at, user = at, _User()
    if chosen.user:
        user_at, user_row = _pick(files, "users", chosen.user, f"{place}.user: ")
        user = user_row.user or _User()
    return _combine(chosen, (at, cluster.cluster), (user_at, user), clock, environ)


def _read(path: Path) -> _File:
    try:
        document = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise KubeConfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise KubeConfigError(f"{path}: not YAML: {error}") from error
    try:
        return msgspec.convert(document or {}, _File)
    except msgspec.ValidationError as error:
        raise KubeConfigError(f"{path}: {error}") from error


def _names(files: _Files, section: str) -> str:
    rows = [row.name for _, file in files for row in getattr(file, section) or ()]
    return " or ".join(rows) or f"an entry of {section}: there is none yet"


def _pick(files: _Files, section: str, name: str, why: str = "") -> tuple[_Place, Any]:
    for path, file in files:
        for row in getattr(file, section) or ():
            if row.name == name:
                return _Place(path, f"{section}[{name}]"), row
    where = ", ".join(str(path) for path, _ in files)
    raise KubeConfigError(
        f"{why}{where}: {section} has no entry named {name!r}", f"use {_names(files, section)}"
    )


def _combine(
    context: _Context,
    cluster_row: tuple[_Place, _Cluster],
    user_row: tuple[_Place, _User],
    clock: Clock,
    environ: Mapping[str, str],
) -> KubeConfig:
    at, cluster = cluster_row
    if urlsplit(cluster.server).scheme not in ("http", "https"):
        raise KubeConfigError(
            f"{at}.server: {cluster.server!r} is not an http(s) URL", "write https://HOST:PORT"
        )
    ca = _material(
        at,
        cluster.certificate_authority,
        cluster.certificate_authority_data,
        "certificate-authority",
        clock,
    )
    if ca is not None and cluster.insecure_skip_tls_verify:
        raise KubeConfigError(
            f"{at}: insecure-skip-tls-verify beside a certificate-authority", "remove one of them"
        )
    server = cluster.server.rstrip("/")
    if cluster.proxy_url:
        proxy = check_proxy(cluster.proxy_url, f"{at}.proxy-url")
    else:
        proxy = environment_proxy(server, environ)
    return KubeConfig(
        server=server,
        credentials=_credentials(user_row, cluster, ca, clock),
        namespace=context.namespace or "default",
        ca=ca or Given(),
        insecure=cluster.insecure_skip_tls_verify,
        server_name=cluster.tls_server_name,
        proxy=proxy,
        headers=_impersonation(*user_row),
        origin=str(at.path),
    )


def _material(at: _Place, file: str, data: str, field: str, clock: Clock) -> Material | None:
    """A field that is given inline (base64, wins) or as a file beside the config; None: neither."""
    if data:
        try:
            return Given(base64.b64decode(data, validate=True))
        except binascii.Error as error:
            raise KubeConfigError(f"{at}.{field}-data: not base64: {error}") from error
    if not file:
        return None
    material = Replaced(at.beside(file), f"{at}.{field}", clock)
    material.read()
    return material


def _credentials(
    row: tuple[_Place, _User], cluster: _Cluster, ca: Material | None, clock: Clock
) -> Credentials:
    at, user = row
    certificate = _material(
        at, user.client_certificate, user.client_certificate_data, "client-certificate", clock
    )
    key = _material(at, user.client_key, user.client_key_data, "client-key", clock)
    if (certificate is None) != (key is None):
        missing = "client-key" if key is None else "client-certificate"
        raise KubeConfigError(
            f"{at}: client-certificate and client-key go together", f"add {missing}"
        )
    if user.token_file or user.token:
        token = Replaced(at.beside(user.token_file), f"{at}.tokenFile", clock)
        given = Given(user.token.encode())
        return FileCredentials(
            token if user.token_file else given, certificate, key, fallback=user.token
        )
    if user.exec is not None:
        check_plugin(user.exec, f"{at}.exec")
        plugin = user.exec
        if os.sep in plugin.command:  # relative to the file, as kubectl reads it
            plugin = msgspec.structs.replace(plugin, command=str(at.beside(plugin.command)))
        return ExecPlugin(plugin, _cluster_info(cluster, ca), clock, f"{at}.exec")
    if user.auth_provider is not None:
        raise KubeConfigError(
            f"{at}.auth-provider: auth providers are gone since Kubernetes 1.26", "use exec"
        )
    if user.username or user.password:
        raise KubeConfigError(
            f"{at}.username: API servers take no passwords since Kubernetes 1.19",
            "use a token, a client certificate or exec",
        )
    return FileCredentials(None, certificate, key)


def _cluster_info(cluster: _Cluster, ca: Material | None) -> dict[str, Any]:
    """What an exec plugin may know of the cluster: client.authentication.k8s.io/v1 Cluster."""
    info: dict[str, Any] = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": base64.b64encode(ca.read()).decode() if ca else "",
        "proxy-url": cluster.proxy_url,
        "disable-compression": cluster.disable_compression,
        "config": next(
            (one.extension for one in cluster.extensions or () if one.name == _EXEC_EXTENSION), None
        ),
    }
    return {name: value for name, value in info.items() if value}


def _impersonation(at: _Place, user: _User) -> tuple[tuple[str, str], ...]:
    """The headers that ask to be treated as somebody else."""
    rest = [("Impersonate-Group", group) for group in user.as_groups or ()]
    rest += [("Impersonate-Uid", user.as_uid)] if user.as_uid else []
    for name, values in (user.as_user_extra or {}).items():
        # Header names are tokens (RFC 9110 §5.6.2); the server takes the rest percent-encoded.
        rest += [(f"Impersonate-Extra-{quote(name.lower(), safe='')}", value) for value in values]
    if not user.as_name:
        if rest:
            raise KubeConfigError(
                f"{at}: as-groups, as-uid and as-user-extra need a user", "add `as`"
            )
        return ()
    return (("Impersonate-User", user.as_name), *rest)


# --- in a cluster, and the choice -----------------------------------------------------------


def in_cluster(
    clock: Clock, *, environ: Mapping[str, str] = os.environ, account: Path = SERVICE_ACCOUNT
) -> KubeConfig:
    """The identity that a Pod's service account has.

    Args:
        clock: For the age of the token.
        environ: Where the API server is named.
        account: The directory where the account's files are mounted.

    Raises:
        KubeConfigError: this is not a Pod, or the account's files are not mounted.
    """
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise KubeConfigError(
            "KUBERNETES_SERVICE_HOST is not set: this is not a Pod", "give --kubeconfig"
        )
    ca = Replaced(account / "ca.crt", "service account", clock)
    token = Replaced(account / "token", "service account", clock)
    try:
        namespace = account.joinpath("namespace").read_text().strip()
        ca.read()
        token.read()
    except OSError as error:
        raise KubeConfigError(f"{error.filename}: {error.strerror}", _MOUNT) from error
    except KubeConfigError as error:
        raise KubeConfigError(error.message, _MOUNT) from error
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    return KubeConfig(
        server=server,
        credentials=FileCredentials(token),
        namespace=namespace,
        ca=ca,
        proxy=environment_proxy(server, environ),
        origin=str(account),
    )


def find_config(
    kubeconfig: str | None,
    clock: Clock,
    *,
    context: str = "",
    environ: Mapping[str, str] = os.environ,
) -> KubeConfig:
    """The configuration to use: the flag, `KUBECONFIG`, the Pod's account, `~/.kube/config`.

    Raises:
        KubeConfigError: none of them can be used.
    """
    if kubeconfig:
        return load_kubeconfig([Path(kubeconfig)], clock, context=context, environ=environ)
    if listed := [Path(part) for part in environ.get("KUBECONFIG", "").split(os.pathsep) if part]:
        return load_kubeconfig(listed, clock, context=context, environ=environ)
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return in_cluster(clock, environ=environ)
    home = Path(environ.get("HOME", "~")).expanduser() / ".kube" / "config"
    if not home.exists():
        raise KubeConfigError(
            "no Kubernetes API is configured",
            f"give --kubeconfig, set KUBECONFIG, run in a Pod, or write {home}",
        )
    return load_kubeconfig([home], clock, context=context, environ=environ)
