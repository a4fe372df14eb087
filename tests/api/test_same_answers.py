"""The same questions to both API servers, one after the other: the answers must be the same.

`questions/*.yaml` holds them, each file one story in a namespace of its own. Compared are the code,
the whole object, and of a refusal its reason and the causes with their fields; not the words of a
message, nor what differs by chance (uids, times, versions, addresses, ports). Zero values that Go
writes and we leave out (`null`, `""`, `{}`, `[]`) say nothing and are not compared.

A question may be answered otherwise on purpose: `differs` says why, and then the answers must
differ. docs/embedded-api.md is the same in the words of users.
"""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from .sides import Side

STORIES = sorted((Path(__file__).parent / "questions").glob("*.yaml"))
CHANCE = {
    *("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "continue"),
    *("remainingItemCount", "managedFields", "nodePort", "healthCheckNodePort"),
    *("clusterIP", "clusterIPs", "lastTransitionTime", "storageVersionHash", "serverAddress"),
}
# Texts for people, and what a kubelet would say of itself.
WORDS = {"message", "description", "nodeInfo", "daemonEndpoints"}
PATCHES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
GROUPS = {
    "leases": "apis/coordination.k8s.io/v1",
    "endpointslices": "apis/discovery.k8s.io/v1",
    "bgppeers": "apis/metallb.io/v1beta2",
    **dict.fromkeys(("services", "configmaps", "secrets", "events"), "api/v1"),
}
# The value of a cell or message that is there by chance: an address, a node port, an age.
BY_CHANCE = re.compile(
    r"198\.51\.100\.\d+|2001:db8:1::[0-9a-f]+|10\.96\.\d+\.\d+|fd00:10:96::[0-9a-f]+"
    r"|(?<=:)3[0-2]\d{3}(?=/)|^\d+m?s$|\d{4}-\d\d-\d\dT[\d:.]+Z"
)


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request; exactly one of the verbs is set, to a path below the story's namespace.

    `NAMESPACE` stands for that namespace in an absolute path and in a body.
    """

    get: str = ""
    head: str = ""
    options: str = ""
    post: str = ""
    put: str = ""
    delete: str = ""
    merge: str = ""
    json: str = ""
    strategic: str = ""
    apply: str = ""
    body: Any = None
    text: str = ""
    form: str = ""
    differs: str = ""

    def request(self, namespace: str) -> tuple[str, str, bytes | None, dict[str, str]]:
        """Method, URL, body and headers."""
        verb, path = next(
            (name, value) for name in self.__struct_fields__[:10] if (value := getattr(self, name))
        )
        if not path.startswith("/"):
            kind = re.split(r"[/?]", path)[0]
            group = GROUPS.get(kind, "apis/metallb.io/v1beta1")
            path = f"/{group}/namespaces/{namespace}/{path}"
        headers = {"User-Agent": "tester"}
        if self.form:
            headers["Accept"] = f"application/json;as={self.form};v=v1;g=meta.k8s.io"
        data = self.text or (json.dumps(self.body) if self.body is not None else "")
        if data:
            headers["Content-Type"] = PATCHES.get(verb, "application/json")
        method = "PATCH" if verb in PATCHES else verb.upper()
        path, data = (text.replace("NAMESPACE", namespace) for text in (path, data))
        return method, path, data.encode() or None, headers


async def answers(side: Side, questions: list[Question], namespace: str) -> list[Any]:
    """What one server says to each, without what differs by chance."""
    told = []
    async with side.session() as client:
        async with client.post("/api/v1/namespaces", json=named(namespace)) as made:
            assert made.status == 201, await made.text()
        for question in questions:
            method, url, data, headers = question.request(namespace)
            async with client.request(method, url, data=data, headers=headers) as answer:
                told.append(await reduced(answer))
    return told


def named(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name}}


async def reduced(answer: aiohttp.ClientResponse) -> Any:
    """Code, warnings and body as they are compared."""
    try:
        body = json.loads(await answer.text() or "null")
    except ValueError:
        return answer.status, await answer.text()
    if isinstance(body, dict) and body.get("kind") == "Status":
        details = body.get("details") or {}
        causes = sorted(
            f"{cause.get('field', '')}: {cause.get('reason', '')}".lower()
            for cause in details.get("causes", [])
            if cause.get("field") != "<nil>"  # CEL says that it did not look any further
        )
        return answer.status, body.get("reason"), details.get("name"), causes
    return answer.status, len(answer.headers.getall("Warning", [])), plain(body)


def plain(value: Any) -> Any:
    """A value without chance, words and zero values."""
    if isinstance(value, dict):
        parts = {name: plain(part) for name, part in value.items() if name not in CHANCE | WORDS}
        if "items" in parts:  # the real one leaves out the kind of its own kinds' items
            parts["items"] = [
                {name: part for name, part in item.items() if name not in ("kind", "apiVersion")}
                for item in parts["items"]
            ]
        return {name: part for name, part in parts.items() if part not in (None, "", {}, [])}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return BY_CHANCE.sub("~", value) if isinstance(value, str) else value


@pytest.mark.parametrize("story", STORIES, ids=[path.stem for path in STORIES])
def test_both_answer_alike(embedded: Side, real: Side, story: Path) -> None:
    questions = read(story)
    namespace = f"answers-{story.stem}"

    async def ask() -> list[list[Any]]:
        return await asyncio.gather(
            *(answers(side, questions, namespace) for side in (embedded, real))
        )

    wrong = []
    for question, ours, theirs in zip(questions, *asyncio.run(ask()), strict=True):
        if (ours == theirs) is bool(question.differs):
            wrong.append(
                f"{question.request(namespace)[:3]}\n  embedded {ours}\n  real     {theirs}"
            )
    assert not wrong, "\n".join(["", *wrong])


def read(story: Path) -> list[Question]:
    return msgspec.yaml.decode(story.read_bytes(), type=list[Question])
