"""Rules of the house that no linter knows. Each failure names file, line and the rule."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "clarion").rglob("*.py"))
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 600

# The layers that may read a clock or draw a random number; everything else is handed a value.
TIMEFUL = {"edge", "daemons"}
CLOCKS = re.compile(
    r"\btime\.(time|monotonic|perf_counter|sleep)\b|\bdatetime\.(now|utcnow|today)\b"
    r"|^\s*(import|from)\s+(time|random|secrets)\b|\buuid[14]\(|\bos\.urandom\b",
    re.MULTILINE,
)

# Put together here so that this file does not itself name a host.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("proxy", "golang", "org"),
        ("deb", "debian", "org"),
        ("crates", "io"),
        ("repo1", "maven", "org"),
    )
]
HOME_PATH = re.compile(r"(?<![\w.])/(home|Users)/[a-z]\w+|(?<![\w.])/root/\.\w+")


def tracked_files() -> list[Path]:
    """Every text file that a commit would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT / "src" / "clarion").parts[0]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
            yield item


def matches(pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        text = path.read_text(errors="replace")
        for hit in pattern.finditer(text):
            line = text.count("\n", 0, hit.start()) + 1
            found.append(f"{path.relative_to(ROOT)}:{line}: {hit.group(0).strip()}")
    return found


def test_functions_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{item.lineno}: {item.name} has {length} lines"
        for path in SOURCES
        for item in functions(path)
        if (length := (item.end_lineno or item.lineno) - item.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert not long, "\n".join(long)


def test_files_are_short() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in SOURCES + sorted((ROOT / "tests").rglob("*.py"))
        if (lines := path.read_text().count("\n")) > FILE_LINES_MAX
    ]
    assert not long, "\n".join(long)


def test_clock_and_randomness_stay_at_the_rim() -> None:
    pure = [path for path in SOURCES if layer_of(path) not in TIMEFUL]
    found = matches(CLOCKS, pure)
    assert not found, "\n".join(found)


def test_no_registry_host_is_named() -> None:
    pattern = re.compile("|".join(re.escape(host) for host in REGISTRY_HOSTS))
    found = matches(pattern, tracked_files())
    assert not found, "\n".join(found)


def test_lock_files_hold_names_versions_and_hashes_only() -> None:
    line = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    for name in ("requirements.lock", "requirements-dev.lock"):
        for text in (ROOT / name).read_text().splitlines():
            assert line.fullmatch(text), f"{name}: {text}"


def test_no_path_of_a_particular_machine() -> None:
    here = re.compile(re.escape(str(ROOT)) + r"\b") if len(ROOT.parts) > 2 else HOME_PATH
    found = matches(HOME_PATH, tracked_files()) + matches(here, tracked_files())
    assert not found, "\n".join(found)


def test_nothing_is_left_for_later() -> None:
    pattern = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    found = matches(pattern, SOURCES)
    assert not found, "\n".join(found)


def test_suppressions_carry_a_reason() -> None:
    pattern = re.compile(r"#\s*(type: ignore|noqa|pragma)(?!.*#).*$", re.MULTILINE)
    found = [
        hit
        for hit in matches(pattern, SOURCES)
        if not re.search(r"(\]|[A-Z]\d+)\s*(#|:|--|-|\()\s*\w", hit)
    ]
    assert not found, "\n".join(found)


def test_no_locks() -> None:
    pattern = re.compile(r"\b(threading|asyncio|multiprocessing)\.(R?Lock|Semaphore|Condition)\b")
    found = matches(pattern, SOURCES)
    assert not found, "one task owns each piece of mutable state:\n" + "\n".join(found)


def test_queues_are_bounded() -> None:
    pattern = re.compile(r"\b(asyncio\.Queue(\[[^\]]*\])?\(\)|SimpleQueue\(|queue\.Queue\(\))")
    found = matches(pattern, SOURCES)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "rule", ["tests/" + p.name for p in (ROOT / "tests").iterdir() if p.is_dir()]
)
def test_every_folder_of_tests_is_in_the_gate(rule: str) -> None:
    if rule == "tests/__pycache__" or not list((ROOT / rule).rglob("test_*.py")):
        return
    recipe = re.search(r"^test:.*\n((\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert rule in recipe.group(1).split(), f"{rule} is not run by `make test`"


def test_every_file_of_tests_is_collected() -> None:
    stray = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "tests").rglob("*.py")
        if not path.name.startswith("test_")
        and any(item.name.startswith("test_") for item in functions(path))
    ]
    assert not stray, f"named so that pytest does not collect them: {stray}"
