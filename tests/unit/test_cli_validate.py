"""`validate` as a user meets it: every problem with its place, whatever the files hold."""
# ruff: noqa: E501 - a case is one line of a table, however long

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clarion.base.limits import YAML_DEPTH
from clarion.cli.validate import command as validate

HEAD = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: NAME}\n"
PEER = "apiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: NAME}\n"
L2 = "apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: NAME}\n"
SERVICE = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\n"
DEEP = YAML_DEPTH + 1
LONG = "9" * 100_000

# What is broken: text, and the code, line and column of the first problem. NAME differs by file.
BROKEN: dict[str, tuple[str | bytes, str, int, int]] = {
    "a list left open": ("kind: [\n", "InvalidYAML", 1, 7),
    "a mapping left open": (HEAD + "spec: {addresses: [192.0.2.0/28]\n", "InvalidYAML", 4, 32),
    "a quote left open": (HEAD + "spec: 'x\n", "InvalidYAML", 4, 8),
    "two colons": ("a: b: c\n", "InvalidYAML", 1, 5),
    "an odd indentation": (HEAD + "spec:\n  addresses: []\n autoAssign: true\n", "InvalidYAML", 6, 2),
    "a tab": ("\tkey: value\n", "InvalidYAML", 1, 1),
    "a tab inside": (HEAD + "spec:\n\taddresses: []\n", "InvalidYAML", 5, 1),
    "Windows line ends": (HEAD.replace("\n", "\r\n") + "spec: [\r\n", "InvalidYAML", 4, 7),
    "a byte order mark": ("\ufeff" + HEAD + "spec: {addresses: 7}\n", "WrongType", 4, 19),
    "UTF-16": (HEAD.encode("utf-16"), "UnreadableFile", 1, 1),
    "an image": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "UnreadableFile", 1, 1),
    "a byte that is no text": (HEAD.encode() + b"spec: \xff\n", "UnreadableFile", 4, 7),
    "a zero byte": (HEAD + "spec: \x00\n", "InvalidYAML", 4, 7),
    "a control character": (HEAD + "spec: \x1b[31m\n", "InvalidYAML", 4, 7),
    "nothing but depth": ("[" * DEEP, "InvalidYAML", 1, DEEP),
    "deep mappings": ("{a: " * DEEP, "InvalidYAML", 1, 4 * DEEP - 3),
    "depth without end": ("[" * 200_000, "InvalidYAML", 1, DEEP),
    "an alias of itself": ("&a [*a]\n", "InvalidYAML", 1, 5),
    "an alias of nothing": ("a: *b\n", "InvalidYAML", 1, 4),
    "laughter": (
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"{n}: &{n} [{', '.join(['*' + m] * 10)}]\n" for m, n in pairwise("abcdefgh")),
        "InvalidYAML",
        0,
        0,
    ),
    "a key twice": (HEAD + "spec: {addresses: []}\nspec: {}\n", "DuplicateKey", 5, 1),
    "a key that is a list": ("? [a]\n: b\n" + HEAD + "spec: {addresses: []}\n", "InvalidKey", 1, 3),
    "a foreign tag": (HEAD + "spec: !!python/object:os.system {addresses: []}\n", "UnsupportedTag", 4, 7),
    "binary": (HEAD + "spec: !!binary aGk=\n", "UnsupportedTag", 4, 7),
    "a list as a file": ("- just\n- a list\n", "NotAnObject", 1, 1),
    "a word as a file": ("hello\n", "NotAnObject", 1, 1),
    "no kind": ("apiVersion: v1\n", "MissingField", 1, 1),
    "a kind that is a number": ("apiVersion: v1\nkind: 7\n", "MissingField", 2, 7),
    "an unknown kind": (HEAD.replace("Pool", "Pol"), "UnknownKind", 2, 7),
    "an unknown version": (HEAD.replace("v1beta1", "v1"), "UnknownKind", 1, 13),
    "no name": (HEAD.replace("name: NAME", "labels: {}") + "spec: {}\n", "MissingField", 3, 1),
    "a name that is a number": (PEER.replace("NAME", "7") + "spec: {myASN: 1}\n", "WrongType", 3, 18),
    "metadata that is a number": ("apiVersion: v1\nkind: Service\nmetadata: 7\n", "MissingField", 3, 11),
    "no spec": (HEAD, "MissingField", 1, 1),
    "a spec that is a list": (HEAD + "spec:\n- a\n", "WrongType", 4, 1),
    "a word for a list": (HEAD + "spec: {addresses: 192.0.2.0/28}\n", "WrongType", 4, 19),
    "a number for a word": (HEAD + "spec: {addresses: [7]}\n", "WrongType", 4, 20),
    "a word for a truth": (HEAD + "spec: {addresses: [], autoAssign: maybe}\n", "WrongType", 4, 35),
    "no for a truth": (HEAD + "spec: {addresses: [], autoAssign: no}\n", "AmbiguousScalar", 4, 35),
    "an octal number": (PEER + "spec: {myASN: 0100, peerAddress: 192.0.2.1}\n", "AmbiguousScalar", 4, 15),
    "a number beyond its field": (PEER + "spec: {myASN: 99999999999, peerASN: 1, peerAddress: 192.0.2.1}\n", "OutOfRange", 4, 15),
    "a number of 100,000 digits": (PEER + f"spec: {{myASN: {LONG}}}\n", "NotANumber", 4, 15),
    "a number without end": (PEER + "spec: {myASN: .inf}\n", "NotANumber", 4, 15),
    "a prefix length of 100,000 digits": (HEAD + f"spec: {{addresses: [192.0.2.0/{LONG}]}}\n", "address-invalid", 4, 20),
    "a community of 100,000 digits": (
        f"apiVersion: metallb.io/v1beta1\nkind: Community\nmetadata: {{name: NAME}}\nspec: {{communities: [{{name: NAME, value: '1:{LONG}'}}]}}\n",
        "community-invalid",
        4,
        0,
    ),
    "a duration of 100,000 digits": (PEER + f"spec: {{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, holdTime: {LONG}s}}\n", "duration-invalid", 4, 64),
    "an address with a leading zero": (HEAD + "spec:\n  addresses:\n  - 192.0.2.010/32\n", "address-invalid", 6, 5),
    "a number in a range of JSON": ('{"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "NAME"},\n\t"spec": {"addresses": [7]}}', "WrongType", 2, 25),
    "JSON left open": ('{"apiVersion": "v1",\n"kind": "Service"', "InvalidYAML", 2, 17),
    "a weight beyond its bounds": (L2 + "spec: {preferredNodeSelectors: [{weight: 101, preference: {}}]}\n", "OutOfRange", 4, 42),
    "an operator that does not exist": (
        L2 + "spec:\n  nodeSelectors:\n  - matchExpressions:\n    - {key: a, operator: Near}\n",
        "selector-invalid",
        7,
        26,
    ),
    "a port that is a list": (SERVICE + "spec: {type: LoadBalancer, ports: [{port: []}]}\n", "WrongType", 4, 37),
    "an annotation that is a number": (SERVICE.replace("}", ", annotations: {a: 7}}") + "spec: {ports: [{port: 80}]}\n", "WrongType", 3, 38),
    "the second of three documents": (
        SERVICE + "spec: {ports: [{port: 80}]}\n---\nkind: [\n---\n" + SERVICE.replace("NAME", "NAME-2") + "spec: {ports: [{port: 80}]}\n",
        "InvalidYAML",
        6,
        7,
    ),
    "an item of a list": ("apiVersion: v1\nkind: List\nitems:\n- 7\n", "NotAnObject", 4, 3),
}  # fmt: skip


def run(*arguments: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(validate, arguments, input=stdin, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def problems(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(*arguments, "-o", "json").output)["problems"]
    return found


def write(path: Path, text: str | bytes, name: str) -> Path:
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(data.replace(b"NAME", name.encode()))
    return path


@pytest.mark.parametrize("label", BROKEN)
def test_what_is_broken_is_told_with_its_place(label: str, tmp_path: Path) -> None:
    text, code, line, column = BROKEN[label]
    file = write(tmp_path / "broken.yaml", text, "a")
    found = problems("-f", str(file))
    errors = [item for item in found if item["severity"] == "error"]
    assert errors
    first = errors[0]
    assert first["code"] == code
    assert first["line"] == line or (not line and first["line"])
    assert first["column"] == column or (not column and first["column"])
    assert all(len(item["message"]) < 400 for item in found)


def test_200_broken_files_are_all_told_in_one_run(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b" / "c"]
    for folder in folders:
        folder.mkdir(parents=True)
    labels = [list(BROKEN)[number % len(BROKEN)] for number in range(200)]
    files: dict[str, str] = {}
    for number, label in enumerate(labels):
        path = folders[number % 2] / f"{number:03}.yaml"
        files[str(write(path, BROKEN[label][0], f"o{number}"))] = BROKEN[label][1]
    good = "spec: {type: LoadBalancer, ports: [{port: 80}]}\n"
    write(tmp_path / "good.yaml", SERVICE + good, "good")
    found = problems("-f", str(tmp_path))
    told: dict[str, set[str]] = {}
    for item in found:
        assert item["line"] > 0, item
        assert item["column"] > 0, item
        assert item["message"], item
        told.setdefault(item["file"], set()).add(item["code"])
    assert {file for file, code in files.items() if code not in told.get(file, ())} == set()
    assert str(tmp_path / "good.yaml") not in told
    assert run("-f", str(tmp_path)).return_value == 1


HUGE = 5_000


def test_a_huge_file_is_read_to_its_end(tmp_path: Path) -> None:
    head = "apiVersion: metallb.io/v1beta1\nkind: Community\n"
    texts = [
        f"{head}metadata: {{name: c{number}, namespace: metallb-system}}\n"
        f"spec: {{communities: [{{name: a{number}, value: '1:{number}'}}]}}\n"
        for number in range(HUGE)
    ]
    texts[-1] = texts[-1].replace("'1:", "'70000:")
    file = tmp_path / "huge.yaml"
    file.write_text("---\n".join(texts))
    (found,) = problems("-f", str(file))
    assert (found["code"], found["line"]) == ("community-invalid", 5 * HUGE - 1)


@pytest.mark.parametrize("text", ["", "\n\n", "# later\n# more\n", "---\n# nothing\n---\n", "~\n"])
def test_a_file_without_objects_is_said_to_be_one(text: str, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)
    result = run("-f", str(file), "--strict")
    assert result.return_value == 0
    assert result.output == (f"0 objects, no problem\n{file} is empty, or holds comments only\n")


def test_objects_of_others_are_counted() -> None:
    text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n"
    assert run("-f", "-", stdin=text).output == (
        "0 objects, no problem\n1 object of kinds that Clarion does not read: Deployment\n"
    )


def test_an_address_with_a_leading_zero_is_explained(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", HEAD + "spec:\n  addresses:\n  - 192.0.2.010/32\n", "p")
    text = run("-f", str(file)).output
    assert f"{file}:6:5: error [address-invalid]" in text
    assert "010 has a leading zero, which some programs read as octal; write 192.0.2.10" in text


POOL = HEAD + "spec: {addresses: [192.0.2.0/32]}\n---\n" + L2 + "spec: {}\n---\n"
WEB = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n{}spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n"
NOTE = "  annotations:\n    {}: {}\n"

# What services meet: manifest of a service -> code, line in the file of services, words.
MEETINGS: list[tuple[str, str, int, str]] = [
    (WEB.format("") + "---\n" + WEB.format("").replace("web", "web2"), "services-wait", 0, "default/web2"),
    (WEB.format(NOTE.format("metallb.io/address-pool", "NAM")), "wanted-pool-unknown", 6, "did you mean NAME?"),
    (WEB.format(NOTE.format("metallb.io/adress-pool", "NAME")), "annotation-unknown", 6, "did you mean metallb.io/address-pool?"),
    (WEB.format(NOTE.format("metallb.io/loadBalancerIPs", "192.0.2.010")), "request-unreadable", 6, "write 192.0.2.10"),
    (WEB.format(NOTE.format("metallb.io/loadBalancerIPs", "198.51.100.1")), "service-without-address", 6, "198.51.100.1 is in no pool"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code", "line", "words"), MEETINGS, ids=[m[1] for m in MEETINGS])
def test_what_the_plan_decides_against_services(
    text: str, code: str, line: int, words: str, tmp_path: Path
) -> None:
    pool = write(tmp_path / "pool.yaml", POOL, "NAME")
    services = write(tmp_path / "services.yaml", text, "NAME")
    (found,) = problems("-f", str(tmp_path))
    assert found["code"] == code
    assert (found["file"], found["line"]) == ((str(services), line) if line else (str(pool), 4))
    assert words in found["message"]


def test_services_alone_are_not_blamed_for_pools_that_live_elsewhere() -> None:
    text = WEB.format(NOTE.format("metallb.io/address-pool", "office"))
    assert run("-f", "-", stdin=text).output == "1 object, no problem\n"


def test_both_sides_of_a_conflict_are_shown_with_their_places(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.yaml", HEAD + "spec: {addresses: [192.0.2.0/28]}\n", name)
    (found,) = (item for item in problems("-f", str(tmp_path)) if item["severity"] == "error")
    assert (found["file"], found["line"]) == (str(tmp_path / "b.yaml"), 4)
    other = {"object": "IPAddressPool a", "file": str(tmp_path / "a.yaml"), "line": 1}
    assert found["related"] == [other]
    assert f"    see {tmp_path / 'a.yaml'}:1: IPAddressPool a\n" in run("-f", str(tmp_path)).output


def test_a_version_that_is_deprecated_is_told() -> None:
    old = PEER.replace("v1beta2", "v1beta1").replace("NAME", "tor")
    text = old + "spec: {myASN: 64500, peerASN: 64501, peerAddress: 192.0.2.1}\n"
    output = run("-f", "-", stdin=text).output
    assert "(stdin):1:13: warning [version-deprecated]" in output
