"""Our client on the real API server: who we are to it, lists by pages, objects of all forms."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from clarion.edge.clock import SystemClock
from clarion.edge.credentials import KubeConfigError
from clarion.edge.kubeclient import GoneError, KubeClient, Selection, UnreachableError
from clarion.edge.kubeconfig import KubeConfig, in_cluster, load_kubeconfig
from clarion.lab.process import wait_until
from clarion.model import kinds
from clarion.model.core import ConfigMap, Namespace, Service
from clarion.model.meta import ObjectKey, ObjectMeta
from clarion.model.metallb import IPAddressPool
from clarion.proto.kube.wire import decode_page
from clarion.testing.apiprocess import Kubectl
from clarion.testing.engine import Engine, find_programs

from .kit import Following, Relay, connected, until

CLOCK = SystemClock()


async def who(config: KubeConfig) -> tuple[str, set[str]]:
    """Whom the server takes us for: name and groups."""
    async with KubeClient(config) as client:
        body = await client.request(
            "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=b"{}"
        )
    found = json.loads(body)["status"]["userInfo"]
    return found["username"], set(found["groups"])


def token_of(kubectl: Kubectl, namespace: str, name: str) -> str:
    kubectl("create", "serviceaccount", name, "-n", namespace)
    return kubectl("create", "token", name, "-n", namespace).strip()


def with_user(engine: Engine, path: Path, user: dict[str, Any]) -> Path:
    """The administrator's kubeconfig with another user in it."""
    document = yaml.safe_load(engine.kubeconfig.read_text())
    document["users"][0]["user"] = user
    path.write_text(yaml.safe_dump(document))
    return path


def admin_user(engine: Engine) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(engine.kubeconfig.read_text())["users"][0]["user"]
    return found


# --- who we are -------------------------------------------------------------------------------


def test_the_server_knows_us_by_certificate_token_and_impersonation(
    engine: Engine, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    def known(user: dict[str, Any]) -> tuple[str, set[str]]:
        path = with_user(engine, tmp_path / "config", user)
        return asyncio.run(who(load_kubeconfig([path], CLOCK)))

    admin = admin_user(engine)
    name, groups = known(admin)
    assert (name, "system:masters" in groups) == ("admin", True)
    inline = {
        f"{field}-data": base64.b64encode(Path(admin[field]).read_bytes()).decode()
        for field in ("client-certificate", "client-key")
    }
    assert known(inline)[0] == "admin"
    account = f"system:serviceaccount:{namespace}:app"
    token = token_of(kubectl, namespace, "app")
    assert known({"token": token})[0] == account
    (tmp_path / "token").write_text(f"{token}\n")
    assert known({"tokenFile": "token", "token": "nonsense"})[0] == account
    name, groups = known(admin | {"as": "jane", "as-groups": ["net", "ops"]})
    assert name == "jane"
    assert {"net", "ops"} < groups


def test_exec_plugins_give_tokens_and_certificates(
    engine: Engine, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    admin = admin_user(engine)
    certificate, key = (
        Path(admin[field]).read_text() for field in ("client-certificate", "client-key")
    )
    for version, status, name in (
        ("v1", {"clientCertificateData": certificate, "clientKeyData": key}, "admin"),
        (
            "v1beta1",
            {"token": token_of(kubectl, namespace, "app")},
            f"system:serviceaccount:{namespace}:app",
        ),
    ):
        api = f"client.authentication.k8s.io/{version}"
        answer = {"kind": "ExecCredential", "apiVersion": api, "status": status}
        (tmp_path / "answer").write_text(json.dumps(answer))
        run = {"apiVersion": api, "command": "cat", "args": [str(tmp_path / "answer")]}
        path = with_user(engine, tmp_path / "config", {"exec": run})
        assert asyncio.run(who(load_kubeconfig([path], CLOCK)))[0] == name


def test_a_pod_follows_the_rotation_of_its_token(
    engine: Engine, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("has expired long ago")
    (tmp_path / "namespace").write_text(namespace)
    (tmp_path / "ca.crt").write_bytes(engine.authority.read_bytes())
    environ = {
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(engine.port),
    }

    async def main() -> None:
        config = in_cluster(CLOCK, environ=environ, account=tmp_path)
        await config.credentials.identity()
        (tmp_path / "token").write_text(token_of(kubectl, namespace, "app"))
        name, _ = await who(config)
        assert name == f"system:serviceaccount:{namespace}:app", "401, and read again"

    asyncio.run(main())


def test_files_are_merged_as_kubectl_merges_them(
    engine: Engine, kubectl: Kubectl, tmp_path: Path
) -> None:
    """Judge: `kubectl config view`."""
    one, two = tmp_path / "one", tmp_path / "two"
    rows: dict[Path, dict[str, Any]] = {
        one: {
            "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": "first"}}],
        },
        two: {
            "current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "none", "user": "none"}}],
            "clusters": [{"name": "c", "cluster": {"server": engine.url}}],
            "users": [{"name": "u", "user": {"token": "second"}}],
        },
    }
    for path, document in rows.items():
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **document}))
    paths = [tmp_path / "absent", one, two]
    told = kubectl.run(
        *("config", "view", "--minify", "--raw", "-o", "json"),
        env={"KUBECONFIG": ":".join(map(str, paths))},
    )
    view = json.loads(told.stdout)
    config = load_kubeconfig(paths, CLOCK)
    identity = asyncio.run(_identity(config))
    assert config.server == view["clusters"][0]["cluster"]["server"]
    assert identity == f"Bearer {view['users'][0]['user']['token']}"


async def _identity(config: KubeConfig) -> str:
    return (await config.credentials.identity()).authorization


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"certificate-authority": ""}, "certificate is not trusted"),
        ({"tls-server-name": "other.example"}, "certificate is not for other.example"),
        ({"proxy-url": "http://127.0.0.1:9"}, "127.0.0.1:9: connection refused"),
    ],
)
def test_what_keeps_us_from_the_server_is_told(
    engine: Engine, tmp_path: Path, cluster: dict[str, str], words: str
) -> None:
    document = yaml.safe_load(engine.kubeconfig.read_text())
    document["clusters"][0]["cluster"] |= cluster
    (tmp_path / "config").write_text(yaml.safe_dump(document))
    with pytest.raises(UnreachableError, match=words):
        asyncio.run(who(load_kubeconfig([tmp_path / "config"], CLOCK, environ={})))


def test_what_kubectl_refuses_we_refuse(engine: Engine, tmp_path: Path) -> None:
    document = yaml.safe_load(engine.kubeconfig.read_text())
    document["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(document))
    judge = Kubectl(path, tmp_path, program=find_programs()[0]["kubectl"])
    assert "insecure" in judge.fails("get", "namespaces")
    with pytest.raises(KubeConfigError, match="insecure-skip-tls-verify"):
        load_kubeconfig([path], CLOCK)


# --- lists and objects --------------------------------------------------------------------------


def test_lists_come_by_pages_and_a_token_ends_with_the_history(
    engine: Engine, namespace: str
) -> None:
    async def main() -> None:
        async with connected(engine.kubeconfig) as client:
            for number in range(7):
                named = ObjectMeta(name=f"cm-{number}", namespace=namespace)
                await client.create(ConfigMap(metadata=named, data={"n": str(number)}))
            here = Selection(namespace)
            page = decode_page(await client.list_page(kinds.CONFIG_MAP, here, 3))
            assert len(page.items) == 3
            more = decode_page(await client.list_page(kinds.CONFIG_MAP, here, 3, page.token))
            assert (len(more.items), more.version) == (3, page.version)
            await client.create(ConfigMap(metadata=ObjectMeta(name="new", namespace=namespace)))
            await asyncio.to_thread(engine.forget_history)
            with pytest.raises(GoneError):
                await client.list_page(kinds.CONFIG_MAP, here, 3, more.token)
            assert len(await client.list_all(ConfigMap, here)) >= 8

    asyncio.run(main())


def pool(name: str, **spec: object) -> str:
    meta = {"name": name, "namespace": "default"}
    kind = {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool"}
    return json.dumps({**kind, "metadata": meta, "spec": spec})


STRANGE = pool("strange", addresses={"from": "192.0.2.1"})


@pytest.fixture
def lenient(engine: Engine, tmp_path: Path) -> Iterator[Kubectl]:
    """A server whose definition of pools lets everything through, as of another version."""
    del engine  # asked for because it says why there is none
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    place = "/spec/versions/0/schema/openAPIV3Schema"
    patch = [{"op": "replace", "path": place, "value": schema}]
    with Engine(tmp_path, controllers=()) as apart:
        apart.install()
        kubectl = apart.kubectl
        definition = ("crd", "ipaddresspools.metallb.io")
        kubectl("patch", *definition, "--type=json", "-p", json.dumps(patch))
        wait_until(
            lambda: kubectl.run("apply", "-f", "-", stdin=STRANGE).returncode == 0,
            30,
            "the server has forgotten the schema that it had",
        )
        yield kubectl


def test_an_object_that_we_cannot_read_is_set_aside_and_heals(
    lenient: Kubectl, tmp_path: Path
) -> None:
    async def put(text: str) -> None:
        await asyncio.to_thread(lambda: lenient("apply", "-f", "-", stdin=text))

    async def main() -> None:
        async with connected(tmp_path / "admin.kubeconfig") as client:
            following = Following(client)
            reflector = following.informers.add(IPAddressPool, selection=Selection("default"))
            async with following.running():
                assert "spec.addresses" in reflector.health.set_aside["default/strange"]
                await put(pool("future", addresses=["192.0.2.128/25"], sparkle={"deep": [1]}))
                await until(lambda: following.names(IPAddressPool) == {"future"})
                await put(pool("strange", addresses=["192.0.2.0/25"]))
                await until(lambda: following.names(IPAddressPool) == {"future", "strange"})
                assert reflector.health.set_aside == {}
                await put(STRANGE)
                await until(lambda: "default/strange" in reflector.health.set_aside)
                last = reflector.store[ObjectKey("default", "strange")]
                assert last.spec.addresses == ("192.0.2.0/25",), "the last good form stays"
                gone = ("delete", "ipaddresspool", "strange", "-n", "default")
                await asyncio.to_thread(lambda: lenient(*gone))
                await until(lambda: following.names(IPAddressPool) == {"future"})
                assert reflector.health.set_aside == {}

    asyncio.run(main())


# --- connections --------------------------------------------------------------------------------


def test_watches_do_not_starve_writes_and_all_ends_while_the_server_is_silent(
    engine: Engine, namespace: str, tmp_path: Path
) -> None:
    followed = (Namespace, Service, ConfigMap, IPAddressPool)

    async def main() -> None:
        async with Relay(engine, tmp_path) as relay:
            async with connected(relay.kubeconfig) as client:
                following = Following(client)
                for of in followed:
                    following.informers.add(of)
                async with following.running():
                    names = [f"cm-{number}" for number in range(50)]
                    for name in names:
                        await client.create(
                            ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace))
                        )
                    await until(lambda: set(names) <= following.names(ConfigMap))
                    # One for each watch; those of the first lists serve the writes.
                    assert relay.open <= 2 * len(followed) + 1
                    engine.pause()
            try:
                await until(lambda: relay.open == 0)
            finally:
                engine.resume()

    asyncio.run(main())
