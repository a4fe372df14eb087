"""`clarion controller`."""

import asyncio
from typing import Any

import click

from clarion.cli.options import CONTROLLER_HTTP, back_end_option, program_options


@click.command()
@program_options(CONTROLLER_HTTP)
@back_end_option("What the speakers are told; its rules apply to the configuration.")
@click.option(
    "--leader-elect/--no-leader-elect",
    default=True,
    show_default=True,
    help="Of several controllers let one write, chosen by a Lease.",
)
@click.option(
    "--webhook-listen",
    metavar="HOST:PORT",
    default=None,
    help="Where the API server asks; empty for none.  [default: :9443 in a Pod, else none]",
)
@click.option(
    "--webhook-secret",
    default="metallb-webhook-cert",
    show_default=True,
    help="Secret that keeps the webhook's certificates.",
)
@click.option(
    "--webhook-service",
    default="metallb-webhook-service",
    show_default=True,
    help="Service in front of the webhook.",
)
@click.option(
    "--webhook-configuration",
    default="metallb-webhook-configuration",
    show_default=True,
    help="ValidatingWebhookConfiguration that is told the authority.",
)
@click.option(
    "--ml-secret-name",
    "memberlist_secret",
    default="",
    help="Secret to make for speakers of MetalLB; empty for none.",
)
def command(
    log_level: str,
    webhook_listen: str | None,
    webhook_secret: str,
    webhook_service: str,
    webhook_configuration: str,
    **flags: Any,
) -> None:
    """Give addresses from pools to services and keep their statuses."""
    from clarion.daemons.controller import ControllerOptions, run_controller
    from clarion.daemons.webhooks import WebhookOptions
    from clarion.edge.logs import parse_level

    webhook = WebhookOptions(
        listen=webhook_listen,
        secret=webhook_secret,
        service=webhook_service,
        configuration=webhook_configuration,
    )
    options = ControllerOptions(log_level=parse_level(log_level), webhook=webhook, **flags)
    asyncio.run(run_controller(options))
