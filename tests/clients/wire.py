"""A client that says exactly the bytes it is given: through CONNECT and TLS as any SDK, then raw."""

import socket
import ssl
from dataclasses import dataclass
from http.client import HTTPResponse


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def verdict(self):
        return self.headers.get("exeat-verdict", "")


def connect(port, authority):
    """A socket to the proxy after `CONNECT authority`, and the CONNECT's answer."""
    stream = socket.create_connection(("127.0.0.1", port), 20)
    stream.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    response = HTTPResponse(stream, method="CONNECT")
    response.begin()
    return stream, Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.reason.encode())


def through(port, ca, host, data, sni=None, method="GET"):
    """Sends `data` to `host:443` through the proxy and reads one answer."""
    stream, answer = connect(port, f"{host}:443")
    if answer.status != 200:
        return answer
    context = ssl.create_default_context(cafile=ca)
    with context.wrap_socket(stream, server_hostname=sni or host) as tls:
        tls.sendall(data)
        response = HTTPResponse(tls, method=method)
        response.begin()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def http1(request):
    """The bytes of a prepared botocore request with a body held in memory."""
    path = request.url.split("/", 3)[3] if request.url.count("/") > 2 else ""
    host = request.url.split("/")[2]
    text = lambda value: value.decode() if isinstance(value, bytes) else str(value)
    fields = {name: text(value) for name, value in request.headers.items()}
    fields.pop("Expect", None)
    body = request.body or b""
    if hasattr(body, "read"):
        body = body.read()
    elif isinstance(body, str):
        body = body.encode()
    fields["Content-Length"] = str(len(body))
    head = f"{request.method} /{path} HTTP/1.1\r\nHost: {host}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode() + b"\r\n" + body
