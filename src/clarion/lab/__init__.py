"""Nodes, routers and clients in network namespaces, with real routing daemons."""
