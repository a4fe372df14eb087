"""`clarion controller`."""

import asyncio
from typing import Any

import click

from clarion.cli.options import program_options


@click.command()
@program_options("127.0.0.1:7473")
def command(log_level: str, **flags: Any) -> None:
    """Give addresses from pools to services and keep their statuses."""
    from clarion.daemons.controller import run_controller
    from clarion.daemons.runtime import ProgramOptions
    from clarion.edge.logs import parse_level

    asyncio.run(run_controller(ProgramOptions(log_level=parse_level(log_level), **flags)))
