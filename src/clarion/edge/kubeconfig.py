"""Where the API server is and who we are to it: in-cluster, kubeconfig files, exec plugins."""

import asyncio
import base64
import binascii
import os
import ssl
import tempfile
from collections.abc import Mapping
from datetime import datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec
import yaml

from clarion.base import limits
from clarion.base.errors import ClarionError
from clarion.base.ports import Clock

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_EXEC_API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


class KubeConfigError(ClarionError):
    """A credential source cannot be used; the message names the file and the field."""


class Identity(msgspec.Struct, frozen=True):
    """What proves who we are: an Authorization header, a client certificate, or both."""

    authorization: str = ""
    certificate: bytes = b""
    key: bytes = b""


class Credentials(Protocol):
    """A source of identity that may change as time passes."""

    async def identity(self, *, renew: bool = False) -> Identity:
        """The present identity; `renew` when the server has just refused the last one."""
        ...


class StaticCredentials:
    """An identity that never changes."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def identity(self, *, renew: bool = False) -> Identity:  # noqa: ARG002 - the port's form
        """The identity."""
        return self._identity


class TokenFile:
    """A bearer token in a file that somebody else replaces: read each minute and when refused."""

    def __init__(self, path: Path, clock: Clock, certificate: Identity) -> None:
        self._path = path
        self._clock = clock
        self._base = certificate
        self._identity: Identity | None = None
        self._read_at = 0.0

    async def identity(self, *, renew: bool = False) -> Identity:
        """The identity with the token as last read."""
        age = self._clock.monotonic() - self._read_at
        if self._identity is None or renew or age >= limits.KUBE_TOKEN_REREAD_SECONDS:
            try:
                token = self._path.read_text().strip()
            except OSError as error:
                if self._identity is None:
                    raise KubeConfigError(f"{self._path}: {error.strerror}") from error
                return self._identity  # a token being replaced: the old one may still serve
            if not token:
                raise KubeConfigError(f"{self._path}: the token file is empty")
            self._identity = msgspec.structs.replace(self._base, authorization=f"Bearer {token}")
            self._read_at = self._clock.monotonic()
        return self._identity


class _ExecEnv(msgspec.Struct, frozen=True):
    name: str
    value: str


class _Exec(msgspec.Struct, frozen=True, rename="camel"):
    command: str
    api_version: str = _EXEC_API_VERSIONS[0]
    args: list[str] | None = None
    env: list[_ExecEnv] | None = None
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = "Never"


class _ExecStatus(msgspec.Struct, frozen=True, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, frozen=True, rename="camel"):
    kind: str
    api_version: str
    status: _ExecStatus


class ExecPlugin:
    """A program that prints an ExecCredential; run again when it expires or is refused."""

    def __init__(self, plugin: _Exec, cluster: dict[str, Any], clock: Clock, origin: str) -> None:
        self._plugin = plugin
        self._cluster = cluster
        self._clock = clock
        self._origin = origin
        self._identity: Identity | None = None
        self._expires: datetime | None = None
        self._running: asyncio.Task[Identity] | None = None

    async def identity(self, *, renew: bool = False) -> Identity:
        """The identity; many callers at once share one run of the plugin."""
        expired = self._expires is not None and self._clock.now() >= self._expires
        if self._identity is not None and not renew and not expired:
            return self._identity
        if self._running is None:
            self._running = asyncio.create_task(self._run())
            self._running.add_done_callback(self._ran)
        return await asyncio.shield(self._running)

    def _ran(self, _task: asyncio.Task[Identity]) -> None:
        self._running = None

    async def _run(self) -> Identity:
        plugin = self._plugin
        info = {
            "kind": "ExecCredential",
            "apiVersion": plugin.api_version,
            "spec": {"interactive": False},
        }
        if plugin.provide_cluster_info:
            info["spec"] = {"interactive": False, "cluster": self._cluster}
        environment = dict(os.environ)
        environment |= {pair.name: pair.value for pair in plugin.env or ()}
        environment["KUBERNETES_EXEC_INFO"] = msgspec.json.encode(info).decode()
        try:
            process = await asyncio.create_subprocess_exec(
                plugin.command,
                *(plugin.args or ()),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise KubeConfigError(
                f"{self._origin}: cannot run {plugin.command!r}: {error.strerror}",
                plugin.install_hint.strip(),
            ) from error
        try:
            async with asyncio.timeout(limits.KUBE_EXEC_PLUGIN_SECONDS):
                out, err = await process.communicate()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise KubeConfigError(f"{self._origin}: {plugin.command!r} does not end") from error
        if process.returncode:
            said = err.decode(errors="replace").strip()[-400:]
            raise KubeConfigError(
                f"{self._origin}: {plugin.command!r} ended with {process.returncode}: {said}"
            )
        return self._accept(out)

    def _accept(self, out: bytes) -> Identity:
        try:
            credential = msgspec.json.decode(out, type=_ExecCredential)
        except msgspec.MsgspecError as error:
            raise KubeConfigError(
                f"{self._origin}: {self._plugin.command!r} printed no ExecCredential: {error}"
            ) from error
        status = credential.status
        if credential.api_version != self._plugin.api_version or not (
            status.token or status.client_certificate_data
        ):
            raise KubeConfigError(
                f"{self._origin}: {self._plugin.command!r} printed {credential.api_version} "
                f"without a credential of {self._plugin.api_version}"
            )
        self._expires = status.expiration_timestamp
        self._identity = Identity(
            f"Bearer {status.token}" if status.token else "",
            status.client_certificate_data.encode(),
            status.client_key_data.encode(),
        )
        return self._identity


class KubeConfig(msgspec.Struct, frozen=True):
    """How to reach one API server as one user."""

    server: str
    credentials: Credentials
    namespace: str = "default"
    ca: bytes = b""  # PEM; empty: the system's
    insecure: bool = False
    server_name: str = ""  # checked in the certificate instead of the host in `server`
    proxy: str = ""
    origin: str = ""

    def ssl_context(self, identity: Identity) -> ssl.SSLContext | None:
        """The TLS side of this configuration for an identity; None for plain HTTP."""
        if not self.server.startswith("https:"):
            return None
        try:
            context = ssl.create_default_context(cadata=self.ca.decode("ascii") or None)
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


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _User(msgspec.Struct, frozen=True, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    username: str = ""
    password: str = ""
    exec: _Exec | None = None
    auth_provider: Any = None


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


def load_kubeconfig(
    paths: list[Path], clock: Clock, *, context: str = "", environ: Mapping[str, str] = os.environ
) -> KubeConfig:
    """Read kubeconfig files, merged as kubectl merges them: the first to name a thing wins.

    Args:
        paths: The files; those that are absent are passed over unless all are.
        clock: For the age of tokens.
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
        raise KubeConfigError(f"{files[0][0]}: current-context is empty", "name a context")
    chosen = _pick(files, "contexts", named)[1].context
    at, cluster = _pick(files, "clusters", chosen.cluster)
    user_at, user = _pick(files, "users", chosen.user) if chosen.user else (at, _NamedUser(""))
    return _combine(chosen, (at, cluster.cluster), (user_at, user.user or _User()), clock, environ)


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


def _pick(files: list[tuple[Path, _File]], section: str, name: str) -> tuple[Path, Any]:
    for path, file in files:
        for row in getattr(file, section) or ():
            if row.name == name:
                return path, row
    raise KubeConfigError(f"{files[0][0]}: {section} has no entry named {name!r}")


def _combine(
    context: _Context,
    cluster_row: tuple[Path, _Cluster],
    user_row: tuple[Path, _User],
    clock: Clock,
    environ: Mapping[str, str],
) -> KubeConfig:
    path, cluster = cluster_row
    if urlsplit(cluster.server).scheme not in ("http", "https"):
        raise KubeConfigError(f"{path}: clusters[{context.cluster}].server is not an http(s) URL")
    if urlsplit(cluster.proxy_url).scheme not in ("", "http", "https"):
        raise KubeConfigError(
            f"{path}: clusters[{context.cluster}].proxy-url: only http proxies are supported"
        )
    where = f"{path}: clusters[{context.cluster}]"
    ca = _material(
        path,
        cluster.certificate_authority,
        cluster.certificate_authority_data,
        f"{where}.certificate-authority",
    )
    server = cluster.server.rstrip("/")
    return KubeConfig(
        server=server,
        credentials=_credentials(user_row, context.user, cluster, clock),
        namespace=context.namespace or "default",
        ca=ca,
        insecure=cluster.insecure_skip_tls_verify,
        server_name=cluster.tls_server_name,
        proxy=cluster.proxy_url or _environment_proxy(server, environ),
        origin=str(path),
    )


def _material(path: Path, file: str, data: str, field: str) -> bytes:
    """The bytes of a field that is given inline (base64, wins) or as a file beside the config."""
    if data:
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise KubeConfigError(f"{field}-data: not base64: {error}") from error
    if not file:
        return b""
    try:
        return path.parent.joinpath(file).read_bytes()
    except OSError as error:
        raise KubeConfigError(f"{field}: {file}: {error.strerror}") from error


def _credentials(
    row: tuple[Path, _User], name: str, cluster: _Cluster, clock: Clock
) -> Credentials:
    path, user = row
    where = f"{path}: users[{name}]"
    certificate = Identity(
        certificate=_material(
            path,
            user.client_certificate,
            user.client_certificate_data,
            f"{where}.client-certificate",
        ),
        key=_material(path, user.client_key, user.client_key_data, f"{where}.client-key"),
    )
    if bool(certificate.certificate) != bool(certificate.key):
        raise KubeConfigError(f"{where}: client-certificate and client-key go together")
    if user.exec is not None:
        if user.exec.api_version not in _EXEC_API_VERSIONS:
            raise KubeConfigError(f"{where}.exec.apiVersion: {user.exec.api_version} is not known")
        plugin = user.exec
        if os.sep in plugin.command:  # relative to the file, as kubectl reads it
            plugin = msgspec.structs.replace(plugin, command=str(path.parent / plugin.command))
        return ExecPlugin(plugin, msgspec.to_builtins(cluster), clock, f"{where}.exec")
    if user.auth_provider is not None:
        raise KubeConfigError(f"{where}.auth-provider is gone from Kubernetes", "use exec")
    if user.token_file and not user.token:
        return TokenFile(path.parent / user.token_file, clock, certificate)
    header = f"Bearer {user.token}" if user.token else ""
    if user.username and not header:
        pair = base64.b64encode(f"{user.username}:{user.password}".encode()).decode()
        header = f"Basic {pair}"
    return StaticCredentials(msgspec.structs.replace(certificate, authorization=header))


def _environment_proxy(server: str, environ: Mapping[str, str]) -> str:
    """What `HTTPS_PROXY` and the like say of this server; never for this machine itself."""
    proxies = {
        name.lower().removesuffix("_proxy"): value
        for name, value in environ.items()
        if name.lower().endswith("_proxy")
    }
    parts = urlsplit(server)
    host = parts.hostname or ""
    local = host in ("localhost", "::1") or host.startswith("127.")
    if local or any(_bypassed(host, entry.strip()) for entry in proxies.get("no", "").split(",")):
        return ""
    return proxies.get(parts.scheme, "")


def _bypassed(host: str, entry: str) -> bool:
    """Whether an entry of `NO_PROXY` (name, domain, network or `*`) covers this host."""
    if "/" in entry:
        try:
            return ip_address(host) in ip_network(entry, strict=False)
        except ValueError:
            return False
    name = entry.lstrip("*").lstrip(".")
    return entry == "*" or (bool(name) and (host == name or host.endswith(f".{name}")))


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
        raise KubeConfigError("KUBERNETES_SERVICE_HOST is not set: this is not a Pod")
    try:
        ca = account.joinpath("ca.crt").read_bytes()
        namespace = account.joinpath("namespace").read_text().strip()
    except OSError as error:
        raise KubeConfigError(
            f"{error.filename}: {error.strerror}", "set automountServiceAccountToken for the Pod"
        ) from error
    return KubeConfig(
        server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
        credentials=TokenFile(account / "token", clock, Identity()),
        namespace=namespace,
        ca=ca,
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
