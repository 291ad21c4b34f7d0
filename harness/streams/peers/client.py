"""http.client, requests, and a WebSocket by hand (RFC 6455); what came back, in one line."""

import base64
import http.client
import os
import socket
import sys
import time
import urllib.parse


def plain(url):
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    heard = []
    for method, path in (("GET", "small"), ("GET", "large"), ("HEAD", "small"), ("GET", "none"), ("GET", "small")):
        connection.request(method, "/first/" + path)
        response = connection.getresponse()
        heard.append(f"{response.status}:{len(response.read())}")
    return heard


def idle(url):
    """With Node as the server, longer idle than the 5 s (and 1 s of grace) for which it keeps a connection."""
    with open(os.path.join(os.environ["PEERS"], "kind")) as kind:
        pause = 7 if kind.read() == "node" else 0
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    heard = []
    for wait in (0, pause):
        time.sleep(wait)
        connection.request("GET", "/first/small")
        response = connection.getresponse()
        heard.append(f"{response.status}:{len(response.read())}")
    return heard


def session(url):
    import requests

    with requests.Session() as session:
        answers = [session.get(url + "/first/" + path, timeout=10) for path in ("small", "large", "none", "small")]
        return [f"{answer.status_code}:{len(answer.content)}" for answer in answers]


def websocket(url):
    address = urllib.parse.urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port or 80), timeout=10)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /first/small HTTP/1.1\r\nHost: {address.hostname}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    stream = connection.makefile("rb")
    status = stream.readline().split(b" ")[1].decode()
    while stream.readline().strip():
        pass
    if status != "101":
        return [status]
    text = b"hello"
    mask = os.urandom(4)
    connection.sendall(bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
    return [status, stream.read(7)[2:].decode()]


try:
    print(" ".join({"plain": plain, "idle": idle, "session": session, "websocket": websocket}[sys.argv[1]](sys.argv[2])))
except Exception as error:  # the outcome is the point, whatever it is
    print(type(error).__name__)
