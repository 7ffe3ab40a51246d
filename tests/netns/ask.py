"""Asks at exeat's doors from beside it, so that one process does for all: a JSON question a line in, an answer a line out."""

import datetime
import hashlib
import hmac
import http.client
import json
import socket
import ssl
import sys

KEY, SECRET, REGION = sys.argv[1:4]
SERVICES = ("s3", "sts", "dynamodb", "kms", "sqs")
NOTHING = hashlib.sha256(b"").hexdigest()


def request(host, signs):
    """A GET as Signature Version 4 has it for the service that the host names; S3's where it names none."""
    if not signs:
        return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    service = next((label for label in host.split(".") if label in SERVICES), "s3")
    now = datetime.datetime.now(datetime.timezone.utc)
    moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    fields = {"host": host, "x-amz-content-sha256": NOTHING, "x-amz-date": moment}
    names = ";".join(fields)
    canonical = "\n".join(["GET", "/", "", *(f"{name}:{value}" for name, value in fields.items()), "", names, NOTHING])
    scope = f"{day}/{REGION}/{service}/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in (day, REGION, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    fields["authorization"] = f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
    return ("GET / HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n").encode()


def status(stream):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = stream.recv(1)
        if not piece:
            return 0
        head += piece
    return int(head.split(b" ")[1])


def connect(port, target, sni, roots, signs=True):
    """CONNECT, a handshake as `sni` (None: none), a request: the statuses of both, as far as it came."""
    with socket.create_connection(("127.0.0.1", port), 20) as plain:
        line = target.encode("latin-1")
        plain.sendall(b"CONNECT " + line + b" HTTP/1.1\r\nHost: " + line + b"\r\n\r\n")
        opened = status(plain)
        if opened != 200:
            return [opened]
        context = ssl.create_default_context(cafile=roots)
        context.check_hostname = sni is not None
        try:
            with context.wrap_socket(plain, server_hostname=sni) as tls:
                tls.sendall(request(sni, signs))
                return [opened, status(tls)]
        except OSError:
            return [opened, 0]


def plain(port, target):
    with socket.create_connection(("127.0.0.1", port), 20) as stream:
        stream.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
        return [status(stream)]


ADMIN = {}


def metrics(port):
    """Over one connection a door: it counts in what it tells, always once."""
    door = ADMIN.setdefault(port, http.client.HTTPConnection("127.0.0.1", port, timeout=10))
    try:
        door.request("GET", "/metrics")
        text = door.getresponse().read().decode()
    except (http.client.HTTPException, ConnectionError):  # it ended the connection, idle
        door.close()
        door.request("GET", "/metrics")
        text = door.getresponse().read().decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


for line in sys.stdin:
    question = json.loads(line)
    print(json.dumps({"connect": connect, "plain": plain, "metrics": metrics}[question.pop("do")](**question)), flush=True)
