"""BGP-4 as a machine without I/O (RFC 4271 and the extensions listed in each module)."""
