"""Python's http.server as it comes: HTTP/1.0, each connection for one request, the end of a body told by closing."""

import functools
import http.server
import socket
import sys
import threading


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        # The lab asks for / to see whether the server is ready, and wants HTTP/1.1.
        self.protocol_version = "HTTP/1.1" if self.path == "/" else "HTTP/1.0"
        super().do_GET()

    def send_header(self, keyword, value):
        # Close-delimited: the length is told by nobody.
        if keyword.lower() != "content-length" or self.path == "/":
            super().send_header(keyword, value)


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host.strip("[]"), int(port)), functools.partial(Handler, directory=sys.argv[1]))


servers = [Server(address) for address in sys.argv[2:]]
print("ready", flush=True)
for server in servers[1:]:
    threading.Thread(target=server.serve_forever).start()
servers[0].serve_forever()
