"""What operators see: metrics, HTTP endpoints, logs."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from clarion.base.addr import parse_address
from clarion.base.errors import ClarionError, InvalidInputError
from clarion.edge import httpd, logs, metrics
from clarion.edge.listen import parse_listen
from clarion.edge.reflector import ReflectorHealth
from clarion.model.core import Secret, Service
from clarion.model.meta import ObjectKey, ObjectMeta

# --- metrics ------------------------------------------------------------------------------------

HEALTH = ReflectorHealth(
    kind="Service",
    state="watching",
    objects=3,
    synced=True,
    version="9",
    trouble="",
    error="",
    set_aside={"a/b": "bad"},
    orphans=0,
    lost=(),
    lists=2,
    watches=5,
    events=7,
)


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name to label values to value, as Prometheus' own parser reads it."""
    return {
        sample.name: {
            tuple(other.labels.values()): other.value
            for other in family.samples
            if other.name == sample.name
        }
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_keep_their_exact_names_and_are_asked_for_when_scraped() -> None:
    registry = metrics.Metrics()
    values = {"in_use": 3.0}
    registry.add(
        lambda: [
            metrics.POOL_IN_USE.sample(values["in_use"], "gold"),
            metrics.POOL_IN_USE.sample(1, 'si"l\\ver'),
            metrics.L2_REQUESTS.sample(5, "192.0.2.1"),
            metrics.BGP_UPDATES.sample(6, "192.0.2.9:179", "default"),
        ]
    )
    registry.add(lambda: metrics.follow_samples([HEALTH]))
    registry.add(lambda: [metrics.CONFIG_LOADED.sample(1)])
    text = registry.render().decode()
    found = parsed(text)
    pools = found["metallb_allocator_addresses_in_use_total"]
    assert pools == {("gold",): 3.0, ('si"l\\ver',): 1.0}
    assert found["metallb_layer2_requests_received"] == {("192.0.2.1",): 5.0}
    assert found["metallb_bgp_updates_total"] == {("192.0.2.9:179", "default"): 6.0}
    assert found["metallb_k8s_client_config_loaded_bool"] == {(): 1.0}
    assert found["clarion_kind_followed_bool"] == {("Service",): 1.0}
    assert found["clarion_objects_set_aside"] == {("Service",): 1.0}
    assert "# TYPE metallb_allocator_addresses_in_use_total gauge" in text
    assert "# TYPE metallb_bgp_updates_total counter" in text
    values["in_use"] = 4.0
    assert 'in_use_total{pool="gold"} 4.0' in registry.render().decode()


def test_one_metric_from_two_sources_is_one_family() -> None:
    registry = metrics.Metrics()
    registry.add(lambda: [metrics.BGP_SESSION_UP.sample(1, "a", "default")])
    registry.add(lambda: [metrics.BGP_SESSION_UP.sample(1, "b", "default")])
    text = registry.render().decode()
    assert text.count("# TYPE metallb_bgp_session_up gauge") == 1
    assert parsed(text)["metallb_bgp_session_up"] == {("a", "default"): 1.0, ("b", "default"): 1.0}


def test_labels_must_fit() -> None:
    with pytest.raises(ValueError, match="labels"):
        metrics.BGP_SESSION_UP.sample(1)


# --- HTTP ---------------------------------------------------------------------------------------


class Config(msgspec.Struct):
    peer_password: str
    items: list[Any]


def test_the_endpoints() -> None:
    missing: list[str] = ["services not read yet"]

    async def extra(_request: web.Request) -> web.Response:
        return web.Response(text="more")

    def snapshot() -> object:
        secret = Secret(metadata=ObjectMeta(name="s"), data={"password": "aGFsbG8="})
        return {"objects": [secret, Service(metadata=ObjectMeta(name="web"))]}

    async def main() -> None:
        server = await httpd.start_http(
            "127.0.0.1:0",
            ready=lambda: missing,
            metrics=metrics.Metrics(),
            snapshot=snapshot,
            routes={"/more": extra},
        )
        base = f"http://{server.host}:{server.port}"
        async with aiohttp.ClientSession() as session:

            async def get(path: str) -> tuple[int, str]:
                async with session.get(base + path) as response:
                    return response.status, await response.text()

            assert await get("/healthz") == (200, "ok\n")
            assert await get("/readyz") == (503, "services not read yet\n")
            missing.clear()
            assert await get("/readyz") == (200, "ok\n")
            status, text = await get("/metrics")
            assert status == 200
            assert "process_resident_memory_bytes" in text
            status, text = await get("/debug/snapshot")
            assert json.loads(text)["objects"][0]["data"] == httpd.BLANK
            assert json.loads(text)["objects"][1]["metadata"] == {"name": "web"}
            assert await get("/more") == (200, "more")
            assert (await get("/other"))[0] == 404
        with pytest.raises(ClarionError, match=f"cannot listen on 127.0.0.1:{server.port}"):
            await httpd.start_http(f"127.0.0.1:{server.port}")
        await server.stop()

    asyncio.run(main())


def test_secrets_are_blanked_wherever_they_stand_and_names_of_secrets_stay() -> None:
    plain = {
        "password": "x",
        "peers": [{"passwordSecret": {"name": "bgp"}, "password": "y", "peerASN": 1}],
        "nested": {"kind": "Secret", "data": {"a": "b"}, "stringData": {"a": "b"}, "type": "t"},
        "configMap": {"kind": "ConfigMap", "data": {"a": "b"}},
        "client-key-data": "k",
        "empty": {"password": ""},
    }
    assert httpd.blanked(plain) == {
        "password": httpd.BLANK,
        "peers": [{"passwordSecret": {"name": "bgp"}, "password": httpd.BLANK, "peerASN": 1}],
        "nested": {
            "kind": "Secret",
            "data": httpd.BLANK,
            "stringData": httpd.BLANK,
            "type": "t",
        },
        "configMap": {"kind": "ConfigMap", "data": {"a": "b"}},
        "client-key-data": httpd.BLANK,
        "empty": {"password": ""},
    }


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        (":7472", ("", 7472)),
        ("[2001:db8::1]:0", ("2001:db8::1", 0)),
    ],
)
def test_listen_addresses(text: str, parts: tuple[str, int]) -> None:
    assert parse_listen(text) == parts


@pytest.mark.parametrize("text", ["", "80", "x:", "x:y", "x:70000", "x:-1"])
def test_listen_addresses_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_listen(text)


# --- logs ---------------------------------------------------------------------------------------


@pytest.fixture
def clean_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("clarion").setLevel(logging.NOTSET)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("clean_logging")
def test_a_line_is_one_json_object_with_the_known_keys_first() -> None:
    out = io.StringIO()
    logs.setup_logging(stream=out)
    log = logs.Log("speaker", node="n1")
    log.bind(peer=parse_address("192.0.2.1")).info(
        "session up", key=ObjectKey("a", "b"), tags={"x"}, msg="not this", more={"n": None}
    )
    log.debug("not shown")
    (line,) = out.getvalue().splitlines()
    shown = json.loads(line)
    assert list(shown)[:5] == ["level", "ts", "caller", "component", "msg"]
    assert shown["caller"].startswith("test_edge_observe.py:")
    assert (shown["level"], shown["component"], shown["msg"]) == ("info", "speaker", "session up")
    assert (shown["node"], shown["peer"], shown["key"]) == ("n1", "192.0.2.1", "a/b")
    assert (shown["tags"], shown["more"]) == (["x"], {"n": None})


@pytest.mark.usefixtures("clean_logging")
def test_a_terminal_gets_text_and_newlines_never_split_a_line() -> None:
    out = Terminal()
    logs.setup_logging(stream=out)
    logs.Log("speaker").warn("peer lost", reason="two\nlines", count=3, empty="")
    (line,) = out.getvalue().splitlines()
    assert line.endswith("warn  speaker: peer lost reason='two\\nlines' count=3 empty=''")


@pytest.mark.usefixtures("clean_logging")
@pytest.mark.parametrize("json_form", [True, False])
def test_an_exception_comes_with_its_trace(json_form: bool) -> None:
    out = io.StringIO()
    logs.setup_logging(stream=out, json=json_form)
    try:
        raise ValueError("boom")
    except ValueError as error:
        logs.Log("tasks").error("task ended", trace=error, task="x")
    assert "ValueError: boom" in out.getvalue()
    assert len(out.getvalue().splitlines()) == 1 or not json_form


@pytest.mark.usefixtures("clean_logging")
@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("all", ["debug", "info", "warn", "error"]),
        ("debug", ["debug", "info", "warn", "error"]),
        ("info", ["info", "warn", "error"]),
        ("WARN", ["warn", "error"]),
        ("error", ["error"]),
        ("none", []),
    ],
)
def test_levels(level: str, shown: list[str]) -> None:
    out = io.StringIO()
    logs.setup_logging(logs.parse_level(level), stream=out, json=True)
    log = logs.Log("x")
    for write in (log.debug, log.info, log.warn, log.error):
        write("event")
    assert [json.loads(line)["level"] for line in out.getvalue().splitlines()] == shown


def test_a_level_that_is_none() -> None:
    with pytest.raises(InvalidInputError, match="all, debug, info, warn, error, none"):
        logs.parse_level("loud")
