"""Bidirectional Forwarding Detection (RFC 5880, 5881, 5883) without sockets and clocks."""
