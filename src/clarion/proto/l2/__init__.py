"""ARP and NDP answering and announcing as a machine without I/O (RFC 826, 5227, 4861)."""
