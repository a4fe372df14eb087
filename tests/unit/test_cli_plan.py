"""`plan --against`, saved snapshots, schemas of the output, and exit codes for a pipeline."""
# ruff: noqa: E501 - a case is one line of a table, however long

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import click
import jsonschema_rs
import msgspec
import pytest
from click.testing import CliRunner, Result

from clarion.base.errors import ClarionError
from clarion.cli.explain import command as explain
from clarion.cli.plan import command as plan
from clarion.cli.validate import command as validate
from clarion.decide.diff import CLASSES
from clarion.decide.snapshot import Snapshot
from clarion.edge.httpd import blanked
from clarion.testing import builders as b

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("0*"))
NODES = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: node-a}}
- {apiVersion: v1, kind: Node, metadata: {name: node-b}}
"""


def run(command: click.Command, *arguments: str, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(command, arguments, input=stdin, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def schema(name: str) -> Any:
    return json.loads((ROOT / "docs" / "schemas" / f"{name}.v1.json").read_text())


def conforms(name: str, text: str) -> Any:
    value = json.loads(text)
    assert value["schema"] == f"clarion.{name}/v1"
    errors = [
        f"{'/'.join(map(str, error.instance_path))}: {error.message}"
        for error in jsonschema_rs.validator_for(schema(name)).iter_errors(value)
    ]
    assert errors == []
    return value


# Schemas.


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_every_output_of_the_examples_conforms_to_its_schema(folder: Path) -> None:
    files = ("-f", str(folder), "-f", "-", "-o", "json")
    conforms("validate", run(validate, *files, stdin=NODES).stdout)
    made = conforms("plan", run(plan, *files, stdin=NODES).stdout)
    conforms("plan", run(plan, "-f", str(folder), "-o", "json").stdout)
    for kind, names in (("service", "services"), ("node", "nodes"), ("pool", "pools")):
        for name in made[names]:
            conforms("explain", run(explain, kind, name, *files, stdin=NODES).stdout)
    other = EXAMPLES[EXAMPLES.index(folder) - 1]
    found = run(plan, *files, "--against", str(other), stdin=NODES)
    conforms("diff", found.stdout)
    assert found.return_value == 2


def test_the_schemas_demand_what_they_describe() -> None:
    for path in sorted((ROOT / "docs" / "schemas").glob("*.json")):
        value = json.loads(path.read_text())
        jsonschema_rs.meta.validate(value)
        assert not jsonschema_rs.validator_for(value).is_valid({})


def test_sizes_beyond_64_bits_are_written(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    write(file, [b.pool("huge", "2001:db8::/32")])
    value = conforms("plan", run(plan, "-f", str(file), "-o", "json").stdout)
    assert value["pools"]["huge"]["usage"]["capacity"]["6"] == str(2**96)
    assert "0 of 2^96" in run(plan, "-f", str(file)).output


def test_the_classes_of_change_are_those_of_the_schema() -> None:
    value = schema("diff")
    kinds = ("addresses", "owners", "sessions", "routes", "pools", "problems")
    named = {
        name
        for kind in kinds
        for name in value["properties"][kind]["items"]["properties"]["change"]["enum"]
    }
    assert named == set(CLASSES)


# Differences.

N = [b.node("n1"), b.node("n2")]
WORLD: list[Any] = [
    b.pool("p", "192.0.2.0/28"),
    b.l2_advertisement("l2"),
    b.bgp_advertisement("bgp"),
    b.peer("r"),
    b.service("web"),
    *N,
]


def write(file: Path, objects: Sequence[Any]) -> str:
    items = [msgspec.to_builtins(item) for item in objects]
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return str(file)


def compared(tmp_path: Path, old: Sequence[Any], new: Sequence[Any], *flags: str) -> Result:
    before = write(tmp_path / "old.json", old)
    after = write(tmp_path / "new.json", new)
    return run(plan, "-f", after, "--against", before, *flags)


def without(name: str, *more: Any) -> list[Any]:
    return [*(obj for obj in WORLD if obj.name != name), *more]


CHANGES: list[tuple[str, list[Any], set[str], str]] = [
    ("a service goes", without("web"), {"lost", "owner-lost", "withdrawn", "pool-usage"}, "service default/web is not there any more"),
    ("another service is first by name", [*WORLD, b.service("a")], {"gained", "owner-gained", "announced", "pool-usage"}, "service default/a is new"),
    ("the pool moves", without("p", b.pool("p", "198.51.100.0/28")), {"moved", "owner-lost", "owner-gained", "withdrawn", "announced"}, "192.0.2.0 is in no pool"),
    ("the pool goes", without("p"), {"lost", "owner-lost", "withdrawn", "pool-removed", "problem-new"}, "192.0.2.0 is in no pool"),
    ("nobody advertises by layer 2", without("l2"), {"owner-lost"}, "no L2Advertisement selects pool p"),
    ("other interfaces", without("l2", b.l2_advertisement("l2", interfaces=["eth0"])), {"owner-interfaces"}, "advertisement l2 differs in interfaces"),
    ("a preference that no node meets", without("l2", b.l2_advertisement("l2", prefer={"zone=x": 1})), {"problem-new"}, "no node matches zone=x"),
    ("a peer goes", without("r"), {"session-removed", "withdrawn"}, "peer r is not there any more"),
    ("a peer comes", [*WORLD, b.peer("s", "198.51.100.9")], {"session-added", "announced"}, "peer s is new"),
    ("a peer elsewhere", without("r", b.peer("r", "198.51.100.9")), {"reset"}, "address is 198.51.100.9, not 198.51.100.1: the session is reset"),
    ("a password", without("r", b.peer("r", password="secret")), {"reset"}, "password is set, not not set"),
    ("a hold time", without("r", b.peer("r", hold_time="30s")), {"next-session"}, "when the session next comes up"),
    ("the default hold time", without("r", b.peer("r", hold_time="90s")), set(), "No change"),
    ("attributes", without("bgp", b.bgp_advertisement("bgp", communities=["no-export"], local_pref=7)), {"changed"}, "advertisement bgp differs in localPref, communities"),
    ("a node is excluded", without("n1", b.node("n1", excluded=True)), {"withdrawn"}, "it is excluded from load balancers by its label"),
    ("a peer not on a node", without("r", b.peer("r", nodes=["zone=x"])), {"session-removed", "withdrawn"}, "peer r does not run on n1"),
    ("an advertisement for another peer", without("bgp", b.bgp_advertisement("bgp", peers=["q"])), {"withdrawn", "problem-new"}, ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("new", "wanted", "text"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_change(tmp_path: Path, new: list[Any], wanted: set[str], text: str) -> None:
    value = json.loads(compared(tmp_path, WORLD, new, "-o", "json").stdout)
    found = set(value["counts"])
    moved = {"owner-moved"} if "owner-moved" in found else set()
    assert found - moved - {"problem-solved", "problem-new"} == wanted - {"problem-new"}
    shown = compared(tmp_path, WORLD, new)
    assert text in shown.stdout
    assert shown.return_value == (2 if found else 0) or shown.return_value == 1


def test_nothing_differs_from_itself(tmp_path: Path) -> None:
    result = compared(tmp_path, WORLD, WORLD)
    assert result.return_value == 0
    assert result.stdout.startswith("No change: 1 addresses, 1 answers, 2 sessions and 2 routes")


def test_a_service_keeps_its_address_when_others_come(tmp_path: Path) -> None:
    new = [*WORLD, *(b.service(name) for name in ("a", "b", "c"))]
    value = json.loads(compared(tmp_path, WORLD, new, "-o", "json").stdout)
    assert [item["change"] for item in value["addresses"]] == ["gained"] * 3
    assert value["unchanged"]["addresses"] == 1


def test_only_the_named_classes_fail(tmp_path: Path) -> None:
    new = without("web")
    assert compared(tmp_path, WORLD, new, "--fail-on", "lost,reset").return_value == 2
    assert compared(tmp_path, WORLD, new, "--fail-on", "reset,moved").return_value == 0
    assert compared(tmp_path, WORLD, new, "--fail-on", "any").return_value == 2
    with pytest.raises(click.UsageError, match="nonsense is no class of change"):
        compared(tmp_path, WORLD, new, "--fail-on", "nonsense")


def test_an_error_in_the_new_objects_is_1_and_one_in_the_old_is_not(tmp_path: Path) -> None:
    bad = [*WORLD, b.pool("q", "nonsense")]
    assert compared(tmp_path, WORLD, bad).return_value == 1
    assert compared(tmp_path, bad, WORLD).return_value == 2


def test_manifests_without_nodes_are_compared_on_any_node(tmp_path: Path) -> None:
    bare = [obj for obj in WORLD if obj not in N]
    new = [obj for obj in bare if obj.name != "r"] + [b.peer("r", my_asn=65000)]
    value = json.loads(compared(tmp_path, bare, new, "-o", "json").stdout)
    assert value["counts"] == {"reset": 1}
    assert value["sessions"][0]["nodes"] == ["(any)"]


# Snapshots.


def saved(file: Path, objects: Sequence[Any], **more: Any) -> str:
    snapshot = Snapshot.from_objects(objects, **more)
    value = {"component": "speaker", "node": "n1", "snapshot": snapshot.redacted()}
    file.write_bytes(msgspec.json.encode(blanked(msgspec.to_builtins(value, str_keys=True))))
    return str(file)


LIVE = [
    *(obj for obj in WORLD if obj.name not in ("web", "r")),
    b.service("web", ingress=("192.0.2.7",)),
    b.endpoints("web", "n1", "n2"),
    b.peer("r", password="hush"),
]


def test_a_saved_snapshot_is_a_source_of_all_three(tmp_path: Path) -> None:
    file = saved(tmp_path / "s.json", LIVE, speakers=["n1"])
    text = (tmp_path / "s.json").read_text()
    assert "hush" not in text
    assert run(validate, "-f", file).return_value == 0
    assert "192.0.2.7" in run(plan, "-f", file).stdout
    told = run(explain, "service", "web", "-f", "-", stdin=text)
    assert "✗ node n2: no live speaker runs on it" in told.stdout


def test_manifests_against_a_snapshot_stand_on_its_ground(tmp_path: Path) -> None:
    file = saved(tmp_path / "s.json", LIVE)
    same = write(tmp_path / "new.json", [*WORLD[:3], b.peer("r", password="hush")])
    assert "No change" in run(plan, "-f", same, "--against", file).stdout
    again = write(
        tmp_path / "new.json",
        [*WORLD[:3], b.peer("r", password="hush"), b.service("web", cluster_ips=())],
    )
    assert "No change" in run(plan, "-f", again, "--against", file).stdout
    assert "No change" in run(plan, "-f", file, "--against", file).stdout


def test_what_is_no_snapshot_of_a_speaker_is_said(tmp_path: Path) -> None:
    other = tmp_path / "c.json"
    other.write_text('{"component": "controller", "outcomes": {}}')
    with pytest.raises(ClarionError, match="snapshot of a controller"):
        run(plan, "-f", str(other))
    other.write_text('{"component": "speaker", "snapshot": {"pools": 7}}')
    with pytest.raises(ClarionError, match="no snapshot of this version"):
        run(plan, "-f", str(other))
    file = saved(tmp_path / "s.json", LIVE)
    with pytest.raises(ClarionError, match="give it alone"):
        run(plan, "-f", file, "-f", str(EXAMPLES[0]))


# Bad input.

BROKEN = (
    b"kind: [\n",
    b"a: b: c\n",
    b"\xff\xfe\x00",
    b"- just\n- a list\n",
    b"apiVersion: v1\nkind: Service\nmetadata: 7\n",
    b"apiVersion: metallb.io/v1beta1\nkind: IPAddressPol\nmetadata: {name: x}\n",
    b"{" * 5000,
    b"apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: %d}\nspec: {}\n",
    b"apiVersion: metallb.io/v1beta1\nkind: BGPPeer\nmetadata: {name: a}\nspec: {myASN: x}\n",
    b"\tkey: value\n",
    b"&a [*a, *a]\n",
    b"'unfinished\n",
)


def test_200_broken_files_give_their_problems_in_one_run(tmp_path: Path) -> None:
    for number in range(200):
        text = BROKEN[number % len(BROKEN)]
        (tmp_path / f"{number:03}.yaml").write_bytes(text.replace(b"%d", b"%d" % number))
    os.symlink(tmp_path / "nowhere", tmp_path / "link.yaml")
    (tmp_path / "folder.yaml").mkdir()
    found = conforms("validate", run(validate, "-f", str(tmp_path), "-o", "json").stdout)
    told = {item["file"] for item in found["problems"] if item["severity"] == "error"}
    assert told == {str(tmp_path / f"{number:03}.yaml") for number in range(200)}
    assert all(item["line"] > 0 and item["column"] > 0 for item in found["problems"])
    for command in (plan, validate):
        assert run(command, "-f", str(tmp_path)).return_value == 1
    assert run(explain, "pool", "p", "-f", str(tmp_path)).return_value == 1


def test_an_unknown_field_is_a_warning_with_the_nearest_name(tmp_path: Path) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p}\n"
        "spec:\n  addresses: [192.0.2.0/28]\n  autoAsign: false\n"
    )
    result = run(validate, "-f", str(file))
    assert result.return_value == 0
    assert f"{file}:6:3: warning [UnknownField]" in result.output
    assert "autoAssign" in result.output
    assert run(validate, "-f", str(file), "--strict").return_value == 1
    assert "0 of 16" in run(plan, "-f", str(file)).stdout


def test_a_copied_example_without_one_peer_is_a_reviewable_change(tmp_path: Path) -> None:
    new = tmp_path / "new"
    shutil.copytree(ROOT / "examples" / "02-advanced-bgp", new)
    text = (new / "30-advertisements.yaml").read_text()
    (new / "30-advertisements.yaml").write_text(text.replace("localPref: 100", "localPref: 200"))
    result = run(plan, "-f", str(new), "--against", str(ROOT / "examples" / "02-advanced-bgp"))
    assert "local pref 100 → 200" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_terminal_gets_drawn_tables_and_colours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("clarion.cli.render.on_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    new = without("p", b.pool("q", "nonsense"))
    before, after = write(tmp_path / "old.json", WORLD), write(tmp_path / "new.json", new)
    plan(["-f", after, "--against", before], standalone_mode=False)
    text = capsys.readouterr().out
    assert "│" in text
    assert "\x1b[31mlost" in text
    assert "[address-invalid]" in text, "a code in brackets is no markup"


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_an_example_changes_nothing_against_itself(folder: Path) -> None:
    found = run(plan, "-f", str(folder), "--against", str(folder))
    assert found.return_value == 0
    assert "No change" in found.stdout


SPLICES = (
    b"[",
    b"{",
    b": ",
    b"\n",
    b"- ",
    b"null",
    b"-1",
    b'"',
    b"9" * 30,
    b"\t",
    b"&a ",
    b"*a",
    b"\x00",
    b"1e400",
    b"[]",
    b"!!binary x",
)


def test_damaged_manifests_never_end_in_a_traceback(tmp_path: Path) -> None:
    random = Random(7)
    sound = [path.read_bytes() for folder in EXAMPLES for path in sorted(folder.glob("*.yaml"))]
    sound.append(Path(saved(tmp_path / "s.json", LIVE)).read_bytes())
    file = tmp_path / "damaged.yaml"
    for number in range(200):
        data = bytearray(random.choice(sound))
        for _ in range(random.randint(1, 5)):
            place = random.randrange(len(data) + 1)
            if random.random() < 0.4:
                del data[place : place + random.randint(1, 20)]
            else:
                data[place:place] = random.choice(SPLICES)
        file.write_bytes(data)
        try:
            result = run(validate if number % 4 else plan, "-f", str(file))
        except ClarionError as error:
            assert error.message  # noqa: PT017 - a refusal with a message is one of two good ends
        else:
            assert result.return_value in (0, 1)
