"""`docs/cli.md` repeats what the commands say of themselves; UPDATE_GOLDEN=1 rewrites that part."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from clarion.decide.diff import CLASSES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
START, END = "<!-- made from the program: {} -->", "<!-- end of {} -->"
WIDTH = 100


SHOW = f"""
import importlib, json, click
from clarion.cli.main import COMMANDS

texts = {{}}
for name in COMMANDS:
    command = importlib.import_module(f"clarion.cli.{{name}}").command
    context = click.Context(
        command,
        info_name=f"clarion {{name}}",
        max_content_width={WIDTH},
        terminal_width={WIDTH},
        help_option_names=["-h", "--help"],
    )
    texts[name] = command.get_help(context)
print(json.dumps(texts))
"""
"""Click keeps what a command was first shown with; a process of its own shows it afresh."""


def help_texts() -> str:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    texts = json.loads(done.stdout)
    blocks = [f"### clarion {name}\n\n```\n{text}\n```\n" for name, text in texts.items()]
    return "\n".join(blocks)


def classes_table() -> str:
    rows = [f"| `{name}` | {text} |" for name, text in CLASSES.items()]
    return "\n".join(["| class | means |", "|---|---|", *rows]) + "\n"


def replaced(page: str, part: str, text: str) -> str:
    start, end = START.format(part), END.format(part)
    assert start in page
    pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: f"{start}\n\n{text}\n{end}", page)


def test_the_page_of_commands_is_current() -> None:
    page = PAGE.read_text()
    wanted = replaced(page, "help", help_texts())
    wanted = replaced(wanted, "classes", classes_table())
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(wanted)
        page = wanted
    assert page == wanted, "run: UPDATE_GOLDEN=1 make check"
