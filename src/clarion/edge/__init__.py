"""The only code of the product that touches the world: sockets, HTTP, files, clocks."""
