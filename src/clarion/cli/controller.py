"""`clarion controller`."""

import asyncio
from typing import Any

import click

from clarion.cli.options import program_options


@click.command()
@program_options("127.0.0.1:7473")
@click.option(
    "--leader-elect/--no-leader-elect",
    default=True,
    show_default=True,
    help="Of several controllers let one write, chosen by a Lease.",
)
def command(log_level: str, **flags: Any) -> None:
    """Give addresses from pools to services and keep their statuses."""
    from clarion.daemons.controller import ControllerOptions, run_controller
    from clarion.edge.logs import parse_level

    asyncio.run(run_controller(ControllerOptions(log_level=parse_level(log_level), **flags)))
