"""A real Kubernetes control plane on loopback: etcd, kube-apiserver, controllers and a scheduler.

The programs are found in `KUBEBUILDER_ASSETS`, then where `tools/setup engine` puts what it builds,
then on the path. `CLARION_ENGINE_VERSION` chooses another Kubernetes version that was built.
"""

import json
import os
import shutil
import signal
import ssl
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Self

import msgspec
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clarion.edge.clock import SystemClock
from clarion.edge.tls import KeyPair, make_authority, make_server
from clarion.lab.process import Process, wait_until
from clarion.testing.apiprocess import Kubectl, free_port
from clarion.testing.keeper import Keeper

ROOT: Final = Path(__file__).resolve().parents[3]
CRDS: Final = ROOT / "deploy" / "crds" / "metallb.io.yaml"

SERVICE_RANGES: Final = ("198.51.100.0/24", "2001:db8:1::/112")
"""Where ClusterIPs come from; the first gives the default family."""

CONTROLLERS: Final = (
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "endpointslice-controller",
)
"""What kube-controller-manager runs: what deletes, and what makes endpoint slices."""

_PROGRAMS: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
)
_START_SECONDS = 60.0
_ETCD_SECONDS = 10.0
_LIFE = timedelta(days=1)

# All requests with who, what and the answer; no bodies: they may hold secrets, and are big.
_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


def find_programs() -> tuple[Mapping[str, Path], str]:
    """The engine's programs by name, and why it cannot run without those that are missing."""
    version = os.environ.get("CLARION_ENGINE_VERSION", "")
    built = ROOT / ".cache" / (f"bin-{version}" if version else "bin")
    places = (os.environ.get("KUBEBUILDER_ASSETS", ""), str(built), os.environ.get("PATH", ""))
    path = os.pathsep.join(place for place in places if place)
    found = {name: where for name in _PROGRAMS if (where := shutil.which(name, path=path))}
    missing = [name for name in _PROGRAMS if name not in found]
    why = f"no {', '.join(missing)}: `tools/setup engine` makes them (Go, etcd)" if missing else ""
    return MappingProxyType({name: Path(where) for name, where in found.items()}), why


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the API server's audit log tells it."""

    user: str
    verb: str
    uri: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    code: int = 0
    allowed: bool = True


class Engine:
    """One control plane with its folder. It ends with the test run, however that ends.

    Args:
        directory: an empty folder for certificates, kubeconfigs, data and logs.
        flags: more flags of kube-apiserver.
        controllers: what kube-controller-manager runs; nothing: it is not started.

    Raises:
        LabError: a program cannot be started or is not ready in time.
        EndedError: a program has ended on its own; the message holds the end of its log.
    """

    def __init__(
        self, directory: Path, *flags: str, controllers: Sequence[str] = CONTROLLERS
    ) -> None:
        self.directory = directory
        self.kubeconfig = directory / "admin.kubeconfig"
        self.audit_log = directory / "audit.log"
        self._flags = flags
        self._controllers = controllers
        self._programs, why = find_programs()
        assert not why, why
        self._keeper = Keeper()
        self._etcd_port, self._peer_port, self._port = free_port(), free_port(), free_port()
        self._etcd: Process | None = None
        self._api: Process | None = None
        self._manager: Process | None = None
        self._scheduler: Process | None = None
        self.kubectl = Kubectl(self.kubeconfig, directory, program=self._programs["kubectl"])

    @property
    def url(self) -> str:
        """Where the API server listens, with TLS."""
        return f"https://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port that the API server listens on."""
        return self._port

    @property
    def pids(self) -> list[int]:
        """Process ids of what runs."""
        programs = (self._etcd, self._api, self._manager, self._scheduler)
        return [one.pid for one in programs if one is not None and one.alive]

    @property
    def authority(self) -> Path:
        """The certificate (PEM) of the authority that signed the server's."""
        return self.directory / "ca.crt"

    def ssl_context(self) -> ssl.SSLContext:
        """What an HTTP client needs to be the administrator."""
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self.directory / "admin.crt", self.directory / "admin.key")
        return context

    # --- life ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._write_files()
        self._keeper.__enter__()
        try:
            self.start_etcd()
            self.start_api()
            if self._controllers:
                self.start_controllers()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop_scheduler()
        self.stop_controllers()
        self.stop_api()
        self.stop_etcd()
        self._keeper.__exit__()

    def start_etcd(self) -> None:
        """Start etcd; it is not waited for: the API server does that."""
        client, peer = (f"http://127.0.0.1:{port}" for port in (self._etcd_port, self._peer_port))
        self._etcd = self._start(
            "etcd",
            f"--data-dir={self.directory / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
        )

    def start_api(self) -> None:
        """Start the API server, on the same port each time, and wait until it is ready."""
        where = self.directory
        self._api = api = self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            "--advertise-address=192.0.2.1",  # told to pods; there are none
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={where / 'server.crt'}",
            f"--tls-private-key-file={where / 'server.key'}",
            f"--client-ca-file={self.authority}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={where / 'accounts.crt'}",
            f"--service-account-signing-key-file={where / 'accounts.key'}",
            f"--service-cluster-ip-range={','.join(SERVICE_RANGES)}",
            f"--audit-policy-file={where / 'audit-policy.json'}",
            f"--audit-log-path={self.audit_log}",
            *self._flags,
        )
        context = ssl.create_default_context(cafile=self.authority)

        def ready() -> bool:
            api.require("kube-apiserver")
            try:
                with urllib.request.urlopen(  # noqa: S310 - our own https address
                    f"{self.url}/readyz", timeout=5, context=context
                ):
                    return True
            except OSError:  # includes URLError and HTTPError: not there or not ready yet
                return False

        wait_until(ready, _START_SECONDS, "the API server is ready", seen=api.tail)

    def start_controllers(self) -> None:
        """Start kube-controller-manager; what it does is awaited by those who need it."""
        self._manager = self._start(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(self._controllers)}",
            "--leader-elect=false",
            "--secure-port=0",
        )

    def start_scheduler(self) -> None:
        """Start kube-scheduler, which places Pods; nothing runs them."""
        self._scheduler = self._start(
            "kube-scheduler",
            f"--kubeconfig={self.kubeconfig}",
            "--leader-elect=false",
            "--secure-port=0",
        )

    def stop_api(self) -> None:
        """End the API server as a crash would; etcd keeps what it has."""
        if self._api is not None:
            self._api.kill()

    def stop_etcd(self) -> None:
        """End etcd as a crash would; what it holds is there again after `start_etcd`."""
        if self._etcd is not None:
            self._etcd.kill()

    def stop_controllers(self) -> None:
        """End kube-controller-manager as a crash would."""
        if self._manager is not None:
            self._manager.kill()

    def stop_scheduler(self) -> None:
        """End kube-scheduler as a crash would."""
        if self._scheduler is not None:
            self._scheduler.kill()

    def pause(self) -> None:
        """Stop the API server in its tracks: connections stay open and nobody answers."""
        assert self._api is not None
        self._api.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused API server go on."""
        assert self._api is not None
        self._api.signal(signal.SIGCONT)

    def heal(self) -> None:
        """Bring back the store and the API server where a test left them stopped or paused."""
        if self._etcd is not None and not self._etcd.alive:
            self.start_etcd()
        if self._api is not None and not self._api.alive:
            self.start_api()
        self.resume()

    def forget_history(self) -> None:
        """Make every version up to now too old to go on from, as after a long outage.

        etcd compacts, and the API server restarts: its watch cache would remember more.
        """
        self.stop_api()
        current = self._ask_etcd("range", {"key": "AA=="})["header"]["revision"]
        self._ask_etcd("compaction", {"revision": current, "physical": True})
        self.start_api()

    # --- use ----------------------------------------------------------------------------------

    def install(self, *manifests: Path) -> None:
        """Apply definitions of kinds (by default ours) and wait until they are served."""
        for manifest in manifests or (CRDS,):
            self.kubectl("apply", "--server-side", "-f", str(manifest))
            self.kubectl(
                "wait", "--for=condition=Established", "--timeout=30s", "-f", str(manifest)
            )

    def service_account_kubeconfig(self, namespace: str, name: str, path: Path) -> Path:
        """Write a kubeconfig with a token of a service account, which must be there."""
        token = self.kubectl("create", "token", name, "-n", namespace, "--duration=1h").strip()
        _write(path, _kubeconfig(self.url, self.authority, {"token": token}))
        return path

    def requests(self, user: str = "") -> Iterator[Request]:
        """What was asked of the API server so far, by one user or by all.

        A watch is told once, when it begins.
        """
        with self.audit_log.open() as log:
            for line in log:
                if not line.endswith("\n"):
                    return  # being written
                entry = json.loads(line)
                request = _request(entry)
                ended = entry["stage"] == "ResponseComplete"
                told = request.verb == "watch" and request.code < 400
                if ended != told and user in ("", request.user):
                    yield request

    # --- inside -------------------------------------------------------------------------------

    def _start(self, program: str, *flags: str) -> Process:
        log = self.directory / f"{program}.log"
        process = Process([str(self._programs[program]), *flags], log=log)
        self._keeper.hold(process)
        return process

    def _ask_etcd(self, what: str, body: Mapping[str, object]) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._etcd_port}/v3/kv/{what}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(  # noqa: S310 - our own etcd, on loopback
            request, timeout=_ETCD_SECONDS
        ) as answer:
            return json.load(answer)

    def _write_files(self) -> None:
        now = SystemClock().now()
        authority = make_authority("engine", now)
        hosts = ("127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc")
        for name, pair in (
            ("ca", authority),
            ("server", make_server(authority, hosts, now)),
            ("admin", make_client(authority, "admin", "system:masters", now)),
            ("accounts", make_authority("accounts", now)),
        ):
            (self.directory / f"{name}.crt").write_bytes(pair.certificate)
            _write(self.directory / f"{name}.key", pair.key.decode())
        _write(self.directory / "audit-policy.json", json.dumps(_AUDIT_POLICY))
        credentials = {
            "client-certificate": str(self.directory / "admin.crt"),
            "client-key": str(self.directory / "admin.key"),
        }
        _write(self.kubeconfig, _kubeconfig(self.url, self.authority, credentials))


def _write(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _kubeconfig(url: str, authority: Path, user: Mapping[str, str]) -> str:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "engine",
        "clusters": [
            {
                "name": "engine",
                "cluster": {"server": url, "certificate-authority": str(authority)},
            }
        ],
        "users": [{"name": "engine", "user": dict(user)}],
        "contexts": [{"name": "engine", "context": {"cluster": "engine", "user": "engine"}}],
    }
    return yaml.safe_dump(config, sort_keys=False)


def _request(entry: Mapping[str, Any]) -> Request:
    about = entry.get("objectRef", {})
    return Request(
        user=entry["user"].get("username", ""),  # nobody, where credentials were not accepted
        verb=entry["verb"],
        uri=entry["requestURI"],
        group=about.get("apiGroup", ""),
        resource=about.get("resource", ""),
        subresource=about.get("subresource", ""),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=entry.get("responseStatus", {}).get("code", 0),
        allowed=entry.get("annotations", {}).get("authorization.k8s.io/decision") == "allow",
    )


def make_client(authority: KeyPair, name: str, group: str, now: datetime) -> KeyPair:
    """A client certificate for a user of a group, signed by an authority."""
    signer = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATION_NAME, group),
                    x509.NameAttribute(NameOID.COMMON_NAME, name),
                ]
            )
        )
        .issuer_name(x509.load_pem_x509_certificate(authority.certificate).subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFE)
        .add_extension(
            x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
