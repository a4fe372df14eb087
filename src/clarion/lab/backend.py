"""A tiny HTTP server that says who answered: the pods behind the services of the lab."""

import argparse
import socket
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answer(BaseHTTPRequestHandler):
    """Answers every GET with one line: node, pod and the client's address."""

    protocol_version = "HTTP/1.1"
    node = ""
    port = 0

    def do_GET(self) -> None:
        """Answer."""
        client = self.address_string().removeprefix("::ffff:")
        text = f"served by {self.node} pod web-{self.node}-{self.port}, client {client}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Write nothing: the client is the judge."""


class DualStackServer(ThreadingHTTPServer):
    """Listens on IPv6 and, through mapped addresses, on IPv4."""

    address_family = socket.AF_INET6
    daemon_threads = True

    def server_bind(self) -> None:
        """Open the socket to both families, also right after a restart; names are not looked up."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "lab", int(self.socket.getsockname()[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="clarion.lab.backend")
    parser.add_argument("--node", required=True)
    parser.add_argument("--port", type=int, default=8080)
    chosen = parser.parse_args(arguments)
    Answer.node, Answer.port = chosen.node, chosen.port
    DualStackServer(("::", chosen.port), Answer).serve_forever()


if __name__ == "__main__":
    main()
