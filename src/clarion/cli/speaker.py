"""`clarion speaker`."""

import asyncio
import socket
from typing import Any

import click

from clarion.base.errors import InvalidInputError
from clarion.cli.options import (
    SPEAKER_HTTP,
    KeyValue,
    back_end_option,
    graceful_shutdown_option,
    program_options,
)

# As MetalLB ships them: interfaces of container networks and virtual machines.
EXCLUDED_INTERFACES = (
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
)


def _checked(
    context: click.Context, parameter: click.Parameter, patterns: tuple[str, ...]
) -> tuple[str, ...]:
    """The patterns, if each is a regular expression: a mistyped one must not let a bridge speak."""
    from clarion.proto.l2.interfaces import Exclusions

    try:
        Exclusions(patterns)
    except InvalidInputError as error:
        raise click.BadParameter(error.message, context, parameter) from None
    return patterns


@click.command()
@click.option("--node-name", default=socket.gethostname, help="Default: the host's name.")
@click.option("--register-node", is_flag=True, help="Create the Node (with the embedded API).")
@click.option("--node-label", "node_labels", type=KeyValue(), multiple=True, help="For the Node.")
@back_end_option("Who speaks BGP.")
@click.option(
    "--bgp-port",
    type=click.IntRange(1, 65535),
    default=179,
    show_default=True,
    help="Listened on while some peer is passive.",
)
@click.option(
    "--frrk8s-namespace",
    default="",
    help="Where frr-k8s runs; default: where the configuration lives.",
)
@click.option(
    "--frr-vty-dir",
    default="/var/run/frr",
    show_default=True,
    help="Where the sockets of FRR's daemons are.",
)
@graceful_shutdown_option(
    "Shed the traffic of routes so long before a stop, and of a cordoned node (RFC 8326)."
)
@click.option("--ignore-exclude-lb", is_flag=True, help="Let excluded nodes announce.")
@click.option(
    "--l2-require-interface",
    is_flag=True,
    help="Only nodes that have the wanted interface can own an address.",
)
@click.option(
    "--l2-exclude-interface",
    "exclude_interfaces",
    multiple=True,
    default=EXCLUDED_INTERFACES,
    callback=_checked,
    metavar="REGEX",
    help="Never used for layer 2; default: those of containers and virtual machines.",
)
@program_options(SPEAKER_HTTP)
def command(log_level: str, **flags: Any) -> None:
    """Announce this node's share of the addresses by ARP, NDP and BGP."""
    from clarion.daemons.speaker import SpeakerOptions, run_speaker
    from clarion.edge.logs import parse_level

    asyncio.run(run_speaker(SpeakerOptions(log_level=parse_level(log_level), **flags)))
