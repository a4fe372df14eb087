"""YAML: scalars by version 1.2, traps refused, places kept; judged by kubectl where it can be."""

import json
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from clarion.base.limits import YAML_ALIAS_NODES, YAML_DEPTH
from clarion.model import yamltext
from clarion.model.yamltext import dump, other_reading, read_documents, resolve

KUBECTL = shutil.which("kubectl")
needs_kubectl = pytest.mark.skipif(KUBECTL is None, reason="kubectl is not installed")


def read(text: str) -> tuple[list[Any], list[tuple[str, int, int]]]:
    documents = list(read_documents(text))
    values = [document.node.plain() for document in documents if document.node]
    faults = [fault[:3] for document in documents for fault in document.faults]
    return values, faults


def kubectl(text: str) -> Any:
    """What kubectl makes of a manifest, without any server."""
    assert KUBECTL is not None
    done = subprocess.run(
        [KUBECTL, "annotate", "--local", "-o", "json", "-f", "-", "judged=yes"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


# By section 10.3.2 of the specification of YAML 1.2.2, with JSON's notion of equal numbers.
CORE_SCHEMA: list[tuple[str, Any]] = [
    ("", None),
    ("~", None),
    ("null", None),
    ("Null", None),
    ("NULL", None),
    ("nULL", "nULL"),
    ("true", True),
    ("True", True),
    ("TRUE", True),
    ("tRUE", "tRUE"),
    ("false", False),
    ("no", "no"),
    ("NO", "NO"),
    ("yes", "yes"),
    ("on", "on"),
    ("Off", "Off"),
    ("y", "y"),
    ("0", 0),
    ("-0", 0),
    ("+12", 12),
    ("010", 10),
    ("08", 8),
    ("0o10", 8),
    ("0x1F", 31),
    ("0b11", "0b11"),
    ("0o8", "0o8"),
    ("-0x1", "-0x1"),
    ("1_000", "1_000"),
    ("1:30", "1:30"),
    ("2001-12-14", "2001-12-14"),
    ("2001-12-14T21:59:43Z", "2001-12-14T21:59:43Z"),
    ("192.0.2.1", "192.0.2.1"),
    ("65535:65282", "65535:65282"),
    ("1e3", 1000),
    ("1.0", 1),
    ("1.", 1),
    (".5", 0.5),
    ("-1.5e-2", -0.015),
    ("12e03", 12000),
    ("0.1", 0.1),
    ("=", "="),
    ("1.2.3", "1.2.3"),
    ("9223372036854775807", 2**63 - 1),
    ("1e", "1e"),
    ("e3", "e3"),
    ("+", "+"),
    ("-", "-"),
    (".", "."),
    ("_1", "_1"),
]


@pytest.mark.parametrize(("text", "value"), CORE_SCHEMA)
def test_plain_scalars(text: str, value: Any) -> None:
    result = resolve(text)
    assert (result, type(result)) == (value, type(value))


@pytest.mark.parametrize("text", [".inf", "-.Inf", "+.INF", ".nan", ".NaN", "1e999", "9" * 400])
def test_numbers_that_json_cannot_hold(text: str) -> None:
    with pytest.raises(OverflowError):
        resolve(text)
    assert read(f"a: {text}")[1] == [("NotANumber", 1, 4)]


MORE_TEXT = """
    Y N n YES NO No oN ON on OFF off Off True FALSE 00 007 -012 +012 0777 0128 08.5 0_7 1__0 +0b1
    0X1F 0B1 0O7 -0o7 0x_1 1_0.5 685_230.15 .5_0 _0 0o 0x 0b 0xG 0b2 1e+3 1E3 1.5e3 +.5 -.5 +1.
    .e3 1.e5 0.0 -0.0 -0.5 0e0 18446744073709551615 18446744073709551616 1e22 1e15 -1 --1 +-1
    1-2 1/2 12:30:45 190:20:30 2001-1-1 1.2e3.4 ~~ nil none undefined Infinity NaN inf a.b a_b
    """
MORE_FOR_KUBECTL = MORE_TEXT.split()


@needs_kubectl
def test_kubectl_reads_every_scalar_alike_or_it_is_reported() -> None:
    texts = [text for text, _ in CORE_SCHEMA if text and text != "-"] + MORE_FOR_KUBECTL
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nvalues:\n"
    judged = kubectl(manifest + "".join(f"- {text}\n" for text in texts))["values"]
    assert len(judged) == len(texts)
    for text, theirs in zip(texts, judged, strict=True):
        ours, reported = resolve(text), other_reading(text)
        if isinstance(ours, int) and abs(ours) >= 2**63:
            assert float(ours) == float(theirs), "kubectl prints such numbers rounded"
            continue
        if reported is None:
            assert ours == theirs, text
            assert isinstance(ours, bool) == isinstance(theirs, bool), text
        else:
            assert ours != theirs or isinstance(ours, bool) != isinstance(theirs, bool), text
            assert yaml.safe_load(reported) == theirs, text


STRUCTURES = [
    "a: &x {b: 1}\nc: *x\n",
    "base: &b {p: 1, q: 2}\nd:\n  <<: *b\n  q: 3\n",
    "one: &o {p: 1}\ntwo: &t {p: 2, q: 2}\nd: {<<: [*o, *t], r: 3}\n",
    "text: |\n  line one\n  line two\nfolded: >-\n  a\n  b\n\n  c\n",
    "'quoted': \"caf\\u00e9 \\x41\"\n? complex\n: value\n",
    "1: a\ntrue: b\n0x10: c\n'yes': d\n",
    'list:\n- - 1\n  - 2\n- {a: [], b: {}}\n- "no"\n- !!str 12\n- ! 012\n',
    "empty:\nnothing: ~\n",
    "a: 1 # comment\nb: 'it''s # not'\nc: a#b\n",
    "multi: word word\n  continued\n",
    "k: {a: 1, b: [1, 2], }\n",
    'url: http://[2001:db8::1]:80/x\naddress: 2001:db8::1\nrange: "2001:db8::1-2001:db8::9"\n',
]


@needs_kubectl
@pytest.mark.parametrize("text", STRUCTURES)
def test_kubectl_reads_the_same_structure(text: str) -> None:
    manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: x}}\n{text}"
    judged = kubectl(manifest)
    del judged["metadata"]["annotations"]
    (ours,), faults = read(manifest)
    assert faults == []
    assert ours == judged


@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
@pytest.mark.parametrize("text", STRUCTURES)
def test_both_parsers_agree(text: str, loader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(yaml, loader):
        pytest.skip("PyYAML was built without libyaml")
    usual = read(text)
    monkeypatch.setattr(yamltext, "_LOADER", getattr(yaml, loader))
    assert read(text) == usual


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("a: 1\nb:\n  c: 2\n  c: 3\na: 4\n", [("DuplicateKey", 4, 3), ("DuplicateKey", 5, 1)]),
        ("'1': a\n1: b\n", [("DuplicateKey", 2, 1)]),
        ("a: no\n", [("AmbiguousScalar", 1, 4)]),
        ("on: 1\n", [("AmbiguousScalar", 1, 1)]),
        ("port: 030070\n", [("AmbiguousScalar", 1, 7)]),
        ("a: *b\n", [("InvalidYAML", 1, 4)]),
        ("a: &b [*b]\n", [("InvalidYAML", 1, 8)]),
        ("a: &b {c: {d: *b}}\n", [("InvalidYAML", 1, 15)]),
        ("a: !thing x\nb: !!binary aGk=\n", [("UnsupportedTag", 1, 4), ("UnsupportedTag", 2, 4)]),
        ("a: !!int x\n", [("UnsupportedTag", 1, 4)]),
        ("a: !!set {x}\n", [("UnsupportedTag", 1, 4)]),
        ("[a, b]: c\n", [("InvalidKey", 1, 1)]),
        ("~: c\n", [("InvalidKey", 1, 1)]),
        ("<<: 3\n", [("InvalidYAML", 1, 5)]),
        ("a: b\x07\n", [("InvalidYAML", 1, 5)]),
        ("a: \ud800\n", [("InvalidYAML", 1, 4)]),
        ("a: 1\n\tb: 2\n", [("InvalidYAML", 2, 1)]),
        ("a: [1,\n", [("InvalidYAML", 1, 6)]),
    ],
)
def test_traps_are_refused_with_their_place(text: str, faults: list[tuple[str, int, int]]) -> None:
    assert read(text)[1] == faults


def test_one_broken_document_does_not_hide_the_others() -> None:
    text = "a: 1\n---\nb: [\n---\n# nothing here\n---\nc: 3\n...\n%YAML 1.2\n---\nd: no\n"
    values, faults = read(text)
    assert values == [{"a": 1}, {"c": 3}, {"d": "no"}]
    assert faults == [("InvalidYAML", 3, 4), ("AmbiguousScalar", 11, 4)]


def test_a_marker_inside_a_text_is_no_marker() -> None:
    assert read("a: |\n  ---\n  x\nb: ---x\n")[0] == [{"a": "---\nx\n", "b": "---x"}]


def test_json_is_yaml() -> None:
    value = {"a": ["x", 1.5, None, True], "smile": "\U0001f600", "tab": "\t", "slash": "/"}
    assert read(json.dumps(value, indent="\t").replace("/", "\\/")) == ([value], [])


def test_nesting_is_bounded() -> None:
    fine = "[" * YAML_DEPTH + "]" * YAML_DEPTH
    assert read(fine)[1] == []
    for text in ("[" * 100_000, "- " * 100_000, "{a: " * 100_000, "[" + fine + "]"):
        ((code, *_),) = read(text)[1]
        assert code == "InvalidYAML"


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    values, faults = read("\n".join(lines))
    assert (values, [code for code, *_ in faults]) == ([], ["InvalidYAML"])
    few = f"a: &a {list(range(9))}\nb: [{', '.join(['*a'] * (YAML_ALIAS_NODES // 10))}]"
    assert read(few)[1] == []


AWKWARD = ["no", "y", "1e3", "010", "0x10", "1_0", "~", "", " x", "a: b", "- a", "# c", "null"]
AWKWARD += ["2001-01-01", "1:30", "=", "<<", "*a", "&a", "!t", "%d", "@a", "`a", "é", "a\nb", "a\n"]
AWKWARD += ["\n", " \n x", "tab\there", "\x07", "trailing ", "12", "1.5", ".inf", "'", '"', "\\"]


def test_what_is_written_is_read_back() -> None:
    value = {"texts": AWKWARD, "keys": dict.fromkeys(AWKWARD, 1), "n": [1, 1.5, True, None]}
    assert read(dump([value, value])) == ([value, value], [])


@needs_kubectl
def test_kubectl_reads_what_is_written() -> None:
    value = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "a": AWKWARD}
    assert kubectl(dump([value]))["a"] == AWKWARD
