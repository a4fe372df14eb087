"""Credentials: every source, and messages that name file and field."""

import asyncio
import base64
import json
import os
import select
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from clarion.base import limits
from clarion.edge import execplugin
from clarion.edge import kubeconfig as kc
from clarion.edge.credentials import Identity, KubeConfigError


class FakeClock:
    """Time that stands still until told."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.at)


CLOCK = FakeClock()


def write(path: Path, *, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "contexts": [
            {"name": "main", "context": {"cluster": "c1", "user": "u1", "namespace": "net"}},
            {"name": "bare", "context": {"cluster": "c1"}},
            {"name": "lost", "context": {"cluster": "c9", "user": "u1"}},
        ],
        "clusters": [{"name": "c1", "cluster": cluster or {"server": "http://127.0.0.1:6480/"}}],
        "users": [{"name": "u1", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def load(path: Path, *, context: str = "", environ: dict[str, str] | None = None) -> kc.KubeConfig:
    return kc.load_kubeconfig([path], CLOCK, context=context, environ=environ or {})


def identity(config: kc.KubeConfig, refused: Identity | None = None) -> Identity:
    async def ask() -> Identity:
        return await config.credentials.identity(refused)

    return asyncio.run(ask())


def pair() -> tuple[bytes, bytes]:
    """A self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "someone")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=9999))
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


CERTIFICATE, KEY = pair()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


# --- files ------------------------------------------------------------------------------------


def test_a_token_a_namespace_and_a_server(tmp_path: Path) -> None:
    config = load(write(tmp_path / "config", user={"token": "abc"}))
    assert (config.server, config.namespace) == ("http://127.0.0.1:6480", "net")
    assert identity(config).authorization == "Bearer abc"
    assert config.ssl_context(Identity()) is None


def test_another_context_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "config", user={"token": "abc"})
    config = load(path, context="bare")
    assert (config.namespace, identity(config)) == ("default", Identity())


def test_certificates_inline_and_in_files_beside_the_config(tmp_path: Path) -> None:
    (tmp_path / "me.crt").write_bytes(CERTIFICATE)
    for user in (
        {"client-certificate": "me.crt", "client-key-data": b64(KEY)},
        {"client-certificate-data": b64(CERTIFICATE), "client-key-data": b64(KEY)},
    ):
        cluster = {
            "server": "https://192.0.2.1:6443",
            "certificate-authority-data": b64(CERTIFICATE),
            "tls-server-name": "kubernetes",
        }
        config = load(write(tmp_path / "config", user=user, cluster=cluster))
        me = identity(config)
        assert (me.certificate, me.key) == (CERTIFICATE, KEY)
        context = config.ssl_context(me)
        assert context is not None
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.cert_store_stats()["x509"] == 1
        assert config.server_name == "kubernetes"


def test_verification_may_be_switched_off(tmp_path: Path) -> None:
    cluster = {"server": "https://192.0.2.1:6443", "insecure-skip-tls-verify": True}
    context = load(write(tmp_path / "c", user={}, cluster=cluster)).ssl_context(Identity())
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE


def test_a_token_file_is_read_again_each_minute_and_when_refused(tmp_path: Path) -> None:
    (tmp_path / "tok").write_text("one\n")
    config = load(write(tmp_path / "config", user={"tokenFile": "tok"}))
    one = identity(config)
    assert one.authorization == "Bearer one"
    (tmp_path / "tok").write_text("two\n")
    assert identity(config) == one
    two = identity(config, refused=one)
    assert two.authorization == "Bearer two"
    (tmp_path / "tok").write_text("three\n")
    assert identity(config, refused=one) == two, "somebody else has seen to it already"
    CLOCK.at += 60
    assert identity(config).authorization == "Bearer three"
    (tmp_path / "tok").unlink()
    CLOCK.at += 60
    assert identity(config).authorization == "Bearer three", "absent while it is replaced"


def test_a_token_file_goes_before_the_token_beside_it(tmp_path: Path) -> None:
    config = load(write(tmp_path / "config", user={"tokenFile": "tok", "token": "given"}))
    assert identity(config).authorization == "Bearer given", "until there is a file"
    (tmp_path / "tok").write_text("read")
    assert identity(config).authorization == "Bearer read"


def test_certificates_in_files_are_read_again(tmp_path: Path) -> None:
    certificate, key = pair()
    for name, data in (("me.crt", CERTIFICATE), ("me.key", KEY), ("ca.crt", CERTIFICATE)):
        (tmp_path / name).write_bytes(data)
    user = {"client-certificate": "me.crt", "client-key": "me.key"}
    cluster = {"server": "https://192.0.2.1", "certificate-authority": "ca.crt"}
    config = load(write(tmp_path / "config", user=user, cluster=cluster))
    assert identity(config) == Identity(certificate=CERTIFICATE, key=KEY)
    for name, data in (("me.crt", certificate), ("me.key", key), ("ca.crt", certificate)):
        (tmp_path / name).write_bytes(data)
    CLOCK.at += 60
    assert identity(config) == Identity(certificate=certificate, key=key)
    assert config.ca.read() == certificate


def test_whom_to_impersonate(tmp_path: Path) -> None:
    user = {
        "as": "jane",
        "as-uid": "7",
        "as-groups": ["net", "ops"],
        "as-user-extra": {"acme.example/project": ["a"]},
    }
    assert load(write(tmp_path / "config", user=user)).headers == (
        ("Impersonate-User", "jane"),
        ("Impersonate-Group", "net"),
        ("Impersonate-Group", "ops"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Extra-acme.example%2Fproject", "a"),
    )


def test_files_are_merged_as_kubectl_does_and_the_first_wins(tmp_path: Path) -> None:
    one = write(tmp_path / "one", user={"token": "first"})
    two = write(tmp_path / "two", user={"token": "second"})
    config = kc.load_kubeconfig([tmp_path / "absent", one, two], CLOCK, environ={})
    assert identity(config).authorization == "Bearer first"
    rest = tmp_path / "rest"
    rest.write_text("current-context: main\n")
    config = kc.load_kubeconfig([rest, two], CLOCK, environ={})
    assert identity(config).authorization == "Bearer second"


# --- faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "cluster", "words"),
    [
        ({}, {"server": "ftp://x"}, "clusters[c1].server"),
        ({}, {"server": "https://x", "certificate-authority": "no.crt"}, "no.crt: No such file"),
        (
            {},
            {"server": "https://x", "certificate-authority-data": "%"},
            "authority-data: not base",
        ),
        ({}, {"server": "https://x", "proxy-url": "socks5://x"}, "clusters[c1].proxy-url: socks5"),
        ({}, {"server": "https://x", "proxy-url": "https://x"}, "use an http:// proxy"),
        ({}, {"server": "https://x", "proxy-url": "http://a:b@:x"}, "proxy-url: ':x' is no URL"),
        (
            {},
            {
                "server": "https://x",
                "insecure-skip-tls-verify": True,
                "certificate-authority-data": b64(b"x"),
            },
            "remove one of them",
        ),
        ({"username": "a", "password": "b"}, None, "users[u1].username: API servers take no pass"),
        ({"as-groups": ["x"]}, None, "users[u1]: as-groups"),
        ({"exec": {"command": "x", "interactiveMode": "Always"}}, None, "asks for a terminal"),
        ({"exec": {"command": "x", "interactiveMode": "never"}}, None, "Never, IfAvailable"),
        ({}, {"server": 5}, "$.clusters[0].cluster.server"),
        ({"client-certificate-data": b64(b"x")}, None, "client-key go together (add client-key)"),
        ({"token": ["x"]}, None, "$.users[0].user.token"),
        (
            {"auth-provider": {"name": "gcp"}},
            None,
            "users[u1].auth-provider: auth prov",
        ),
        ({"exec": {"command": "x", "apiVersion": "v9"}}, None, "users[u1].exec.apiVersion"),
        ({"exec": {"args": []}}, None, "$.users[0].user.exec"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_field(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any] | None, words: str
) -> None:
    path = write(tmp_path / "config", user=user, cluster=cluster)
    with pytest.raises(KubeConfigError) as caught:
        load(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ("nowhere", "contexts has no entry named 'nowhere' .use main or bare or lost"),
        ("lost", "contexts.lost..cluster: .* clusters has no entry named 'c9' .use c1"),
    ],
)
def test_dangling_names(tmp_path: Path, context: str, words: str) -> None:
    with pytest.raises(KubeConfigError, match=words):
        load(write(tmp_path / "config", user={}), context=context)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(KubeConfigError, match="no such file"):
        load(tmp_path / "absent")
    (tmp_path / "bad").write_text("a: [")
    with pytest.raises(KubeConfigError, match="not YAML"):
        load(tmp_path / "bad")
    (tmp_path / "empty").write_text("")
    with pytest.raises(KubeConfigError, match=r"current-context is empty .*there is none yet"):
        load(tmp_path / "empty")
    with pytest.raises(KubeConfigError, match="Is a directory"):
        load(tmp_path)


def test_pem_that_is_none_names_the_field(tmp_path: Path) -> None:
    cluster = {"server": "https://x", "certificate-authority-data": b64(b"no pem")}
    config = load(write(tmp_path / "config", user={}, cluster=cluster))
    with pytest.raises(KubeConfigError, match="certificate-authority"):
        config.ssl_context(Identity())
    config = load(write(tmp_path / "config", user={}, cluster={"server": "https://x"}))
    with pytest.raises(KubeConfigError, match="client-certificate"):
        config.ssl_context(Identity(certificate=CERTIFICATE, key=pair()[1]))


# --- exec plugins -----------------------------------------------------------------------------

PLUGIN = """#!/bin/sh
echo run >> runs
test -e fail && { echo "log in first" >&2; exit 3; }
cat answer
"""


def plugin(tmp_path: Path, answer: object, **fields: Any) -> kc.KubeConfig:
    program = tmp_path / "bin" / "plugin"
    program.parent.mkdir(exist_ok=True)
    program.write_text(PLUGIN.replace("runs", str(tmp_path / "runs")))
    text = program.read_text().replace("cat answer", f"cat {tmp_path / 'answer'}")
    program.write_text(text.replace("test -e fail", f"test -e {tmp_path / 'fail'}"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "answer").write_text(answer if isinstance(answer, str) else json.dumps(answer))
    run = {"apiVersion": "client.authentication.k8s.io/v1", "command": "bin/plugin", **fields}
    return load(write(tmp_path / "config", user={"exec": run}))


def credential(**status: Any) -> dict[str, Any]:
    version = "client.authentication.k8s.io/v1"
    return {"kind": "ExecCredential", "apiVersion": version, "status": status}


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


def test_a_plugin_gives_a_token_until_it_expires_or_is_refused(tmp_path: Path) -> None:
    expires = (CLOCK.now() + timedelta(seconds=100)).isoformat()
    config = plugin(tmp_path, credential(token="abc", expirationTimestamp=expires))
    abc = identity(config)
    assert abc.authorization == "Bearer abc"
    assert identity(config) == abc
    assert runs(tmp_path) == 1
    assert identity(config, refused=abc) == abc, "a server that refuses all starts no programs"
    assert runs(tmp_path) == 1
    CLOCK.at += limits.KUBE_EXEC_PLUGIN_PAUSE_SECONDS
    (tmp_path / "answer").write_text(json.dumps(credential(token="new")))
    new = identity(config, refused=abc)
    assert new.authorization == "Bearer new"
    assert identity(config, refused=abc) == new, "one run for all who were refused"
    assert runs(tmp_path) == 2


def test_a_plugin_runs_again_when_what_it_gave_expires(tmp_path: Path) -> None:
    expires = (CLOCK.now() + timedelta(seconds=100)).isoformat()
    config = plugin(tmp_path, credential(token="abc", expirationTimestamp=expires))
    identity(config)
    CLOCK.at += 101
    identity(config)
    assert runs(tmp_path) == 2


def test_a_plugin_may_give_a_certificate(tmp_path: Path) -> None:
    answer = credential(clientCertificateData=CERTIFICATE.decode(), clientKeyData=KEY.decode())
    me = identity(plugin(tmp_path, answer))
    assert (me.authorization, me.certificate, me.key) == ("", CERTIFICATE, KEY)


def test_callers_at_once_share_one_run(tmp_path: Path) -> None:
    config = plugin(tmp_path, credential(token="abc"))

    async def many() -> set[str]:
        found = await asyncio.gather(*[config.credentials.identity() for _ in range(20)])
        return {one.authorization for one in found}

    assert asyncio.run(many()) == {"Bearer abc"}
    assert runs(tmp_path) == 1


@pytest.mark.parametrize("version", execplugin.API_VERSIONS)
def test_a_plugin_is_told_of_environment_arguments_and_cluster(
    tmp_path: Path, version: str
) -> None:
    script = (
        'test "$1" = get && test "$REGION" = north || exit 9; '
        f'printf %s "$KUBERNETES_EXEC_INFO" > {tmp_path / "info"}; '
        f'printf \'{{"kind":"ExecCredential","apiVersion":"{version}",'
        '"status":{"token":"t"}}\''
    )
    run = {
        "command": "sh",
        "args": ["-c", script, "sh", "get"],
        "env": [{"name": "REGION", "value": "north"}],
        "apiVersion": version,
        "provideClusterInfo": True,
    }
    (tmp_path / "ca.crt").write_bytes(CERTIFICATE)
    cluster = {
        "server": "https://192.0.2.1:6443",
        "certificate-authority": "ca.crt",
        "tls-server-name": "kubernetes",
        "extensions": [
            {"name": "other", "extension": 1},
            {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "us"}},
        ],
    }
    config = load(write(tmp_path / "config", user={"exec": run}, cluster=cluster))
    assert identity(config).authorization == "Bearer t"
    assert json.loads((tmp_path / "info").read_text()) == {
        "kind": "ExecCredential",
        "apiVersion": version,
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://192.0.2.1:6443",
                "certificate-authority-data": b64(CERTIFICATE),
                "tls-server-name": "kubernetes",
                "config": {"audience": "us"},
            },
        },
    }


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("nonsense", "printed no ExecCredential"),
        ({"kind": "ExecCredential"}, "printed no ExecCredential"),
        (credential(), "neither a token nor a client certificate"),
        ({**credential(), "status": None}, "neither a token nor a client certificate"),
        (credential(clientCertificateData="x"), "or a key without the other"),
        ({**credential(token="x"), "apiVersion": "other/v1"}, "printed other/v1"),
    ],
)
def test_a_plugin_that_prints_something_else(tmp_path: Path, answer: object, words: str) -> None:
    with pytest.raises(KubeConfigError, match=words):
        identity(plugin(tmp_path, answer))


def test_a_plugin_that_fails_or_is_not_installed(tmp_path: Path) -> None:
    config = plugin(tmp_path, credential(token="x"), installHint="get it from the shop")
    (tmp_path / "fail").write_text("")
    with pytest.raises(KubeConfigError, match="ended with 3: log in first"):
        identity(config)
    (tmp_path / "fail").unlink()
    with pytest.raises(KubeConfigError, match="log in first"):
        identity(config)
    assert runs(tmp_path) == 1, "the failure stands for a while"
    CLOCK.at += limits.KUBE_EXEC_PLUGIN_PAUSE_SECONDS
    assert identity(config).authorization == "Bearer x"
    (tmp_path / "bin" / "plugin").unlink()
    config = load(tmp_path / "config")
    with pytest.raises(KubeConfigError) as caught:
        identity(config)
    assert "cannot run" in str(caught.value)
    assert "get it from the shop" in str(caught.value)


def test_a_plugin_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "KUBE_EXEC_PLUGIN_SECONDS", 0.2)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    version = execplugin.API_VERSIONS[0]
    # The shell and its child hold the fifo open for writing for as long as they live.
    script = f"exec 3<>{fifo}; sleep 600 & wait"
    run = {"command": "sh", "apiVersion": version, "args": ["-c", script]}
    config = load(write(tmp_path / "config", user={"exec": run}))
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(KubeConfigError, match=r"'sh' did not end within 0.2s \(does it wait"):
        identity(config)
    assert select.select([reader], [], [], 10)[0], "the last writer is gone"
    assert os.read(reader, 1) == b""
    os.close(reader)


# --- proxies, Pods, and the choice --------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "environ", "proxy"),
    [
        ("https://api.example:6443", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://api.example:6443", {"https_proxy": "http://p:1"}, "http://p:1"),
        ("http://api.example", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://localhost:6443", {"HTTPS_PROXY": "http://p:1"}, ""),
        ("https://api.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a, .example"}, ""),
        ("https://api.example", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, ""),
        ("https://192.0.2.7", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "192.0.2.0/24"}, ""),
        (
            "https://192.0.3.7",
            {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "192.0.2.0/24"},
            "http://p:1",
        ),
        ("https://api.example", {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        ("https://api.example", {"HTTPS_PROXY": "http://u:p@p:1"}, "http://u:p@p:1"),
        ("https://a.b", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.b:6443"}, "http://p:1"),
        ("https://a.b:6443", {"HTTPS_PROXY": "http://p:1", "no_proxy": "A.B:6443"}, ""),
        ("https://[2001:db8::1]", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "2001:db8::1"}, ""),
        ("https://[2001:db8::1]", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "2001:db8::/32"}, ""),
        ("https://notexample", {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example"}, "http://p:1"),
        (
            "https://api.example",
            {"HTTPS_PROXY": "http://p:1", "NO_PROXY": "192.0.2.0/24"},
            "http://p:1",
        ),
    ],
)
def test_proxies_of_the_environment(
    tmp_path: Path, server: str, environ: dict[str, str], proxy: str
) -> None:
    path = write(tmp_path / "config", user={}, cluster={"server": server})
    assert load(path, environ=environ).proxy == proxy


def test_the_configs_own_proxy_wins(tmp_path: Path) -> None:
    cluster = {"server": "https://x.example", "proxy-url": "http://mine:1"}
    path = write(tmp_path / "config", user={}, cluster=cluster)
    assert load(path, environ={"HTTPS_PROXY": "http://p:1"}).proxy == "http://mine:1"


def account(tmp_path: Path) -> Path:
    for name, text in (("ca.crt", CERTIFICATE.decode()), ("namespace", "net\n"), ("token", "t\n")):
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_pods_account(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "2001:db8::1", "KUBERNETES_SERVICE_PORT": "6443"}
    config = kc.in_cluster(CLOCK, environ=environ, account=account(tmp_path))
    assert (config.server, config.namespace) == ("https://[2001:db8::1]:6443", "net")
    assert identity(config).authorization == "Bearer t"
    assert config.ssl_context(Identity()) is not None


def test_a_pod_without_its_account(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "192.0.2.1"}
    with pytest.raises(KubeConfigError, match="automountServiceAccountToken"):
        kc.in_cluster(CLOCK, environ=environ, account=tmp_path)
    with pytest.raises(KubeConfigError, match="not a Pod"):
        kc.in_cluster(CLOCK, environ={}, account=tmp_path)
    (account(tmp_path) / "token").write_text("")
    with pytest.raises(KubeConfigError, match="token: the file is empty"):
        kc.in_cluster(CLOCK, environ=environ, account=tmp_path)


def test_a_pods_token_and_authority_are_rotated(tmp_path: Path) -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "192.0.2.1"}
    config = kc.in_cluster(CLOCK, environ=environ, account=account(tmp_path))
    certificate, _ = pair()
    first = identity(config)
    (tmp_path / "ca.crt").write_bytes(certificate)
    (tmp_path / "token").write_text("rotated")
    assert identity(config) == first
    CLOCK.at += 60
    assert identity(config).authorization == "Bearer rotated"
    assert config.ca.read() == certificate


def test_a_proxy_of_the_environment_that_cannot_be_used(tmp_path: Path) -> None:
    path = write(tmp_path / "config", user={}, cluster={"server": "https://x.example"})
    with pytest.raises(KubeConfigError, match="HTTPS_PROXY: socks5 proxies are not"):
        load(path, environ={"HTTPS_PROXY": "socks5://p:1"})


def test_which_configuration_is_taken(tmp_path: Path) -> None:
    flag = write(tmp_path / "flag", user={"token": "flag"})
    listed = write(tmp_path / "listed", user={"token": "listed"})
    (tmp_path / ".kube").mkdir()
    home = {"HOME": str(tmp_path)}
    with pytest.raises(KubeConfigError, match="--kubeconfig"):
        kc.find_config(None, CLOCK, environ=home)
    write(tmp_path / ".kube" / "config", user={"token": "home"})
    environ = home | {"KUBECONFIG": f"{tmp_path / 'absent'}:{listed}"}

    def taken(path: str | None, environ: dict[str, str]) -> str:
        return identity(kc.find_config(path, CLOCK, environ=environ)).authorization

    assert taken(str(flag), environ) == "Bearer flag"
    assert taken(None, environ) == "Bearer listed"
    assert taken(None, home) == "Bearer home"
    with pytest.raises(KubeConfigError, match="serviceaccount"):
        kc.find_config(None, CLOCK, environ=home | {"KUBERNETES_SERVICE_HOST": "192.0.2.1"})
