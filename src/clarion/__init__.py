"""Clarion: addresses from pools, given to services, told to the network by ARP/NDP and BGP."""

__version__ = "0.1.0"
