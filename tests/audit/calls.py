"""Calls to an S3 through exeat, the origin that notes them, and the audit lines that should tell of them."""

import hashlib
import hmac
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))
import lab  # noqa: E402

HOST, REGION, BUCKET = "s3.us-east-1.amazonaws.com", "us-east-1", "kill9"
KEY, SECRET = lab.key_id_of("123456789012"), "kill9-secret-kill9-secret-kill9-secret-42"
POLICY = f"""version: 1
statements:
  - {{id: ours, effect: allow, action: ['s3:GetObject', 's3:PutObject'], resource: 'arn:aws:s3:::{BUCKET}/*'}}
  - {{id: shut, effect: deny, action: s3:*, resource: 'arn:aws:s3:::{BUCKET}/shut/*'}}
"""


def signed(method, key, body):
    """An S3 request's bytes, signed with SigV4."""
    now, digest = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()), hashlib.sha256(body).hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    canonical = f"{method}\n/{BUCKET}/{key}\n\nhost:{HOST}\nx-amz-content-sha256:{digest}\nx-amz-date:{now}\n\n{names}\n{digest}"
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    secret = b"AWS4" + SECRET.encode()
    for part in scope.split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    signature = hmac.digest(secret, to_sign.encode(), "sha256").hex()
    return (f"{method} /{BUCKET}/{key} HTTP/1.1\r\nHost: {HOST}\r\nx-amz-date: {now}\r\nx-amz-content-sha256: {digest}\r\n"
            f"Authorization: AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def read_message(stream, held):
    """One message off a stream: (head, what followed it). `None` where the stream ended first."""
    while (end := held.find(b"\r\n\r\n")) < 0:
        if not (more := stream.recv(65536)):
            return None, b""
        held += more
    head, rest = held[:end], held[end + 4:]
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(rest) < length:
        if not (more := stream.recv(65536)):
            return None, b""
        rest += more
    return head, rest[length:]


class Origin:
    """Notes each request as soon as its first line is there, then answers it."""

    def __init__(self, certificate, key):
        self.seen, self.serving = [], []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            peer, _ = self.listener.accept()
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            thread.start()  # Only what has begun can be waited for.
            self.serving.append(thread)

    def settle(self):
        """Waits until what had come before a kill is read to its end."""
        while self.serving:
            self.serving.pop().join(30)

    def _serve(self, peer):
        held = b""
        try:
            with self.context.wrap_socket(peer, server_side=True) as stream:
                while True:
                    while b"\r\n" not in held:
                        if not (more := stream.recv(65536)):
                            return
                        held += more
                    self.seen.append(held.split(b" ", 2)[1].decode().removeprefix(f"/{BUCKET}/"))
                    head, held = read_message(stream, held)
                    if head is None:
                        return
                    stream.sendall(b"HTTP/1.1 200 OK\r\nx-amz-request-id: ORIGIN\r\nContent-Length: 2\r\n\r\nok")
        except OSError:
            pass  # exeat was killed


def connect(port, context):
    """A TLS stream to the S3 through the proxy."""
    plain = socket.create_connection(("127.0.0.1", port), 20)
    plain.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
    if read_message(plain, b"")[0] is None:
        raise EOFError
    return context.wrap_socket(plain, server_hostname=HOST)


def key_of(intent):
    """The object that an intent line names."""
    return intent["resource"].split(f":::{BUCKET}/", 1)[1]


def verify(exeat, files):
    done = subprocess.run([exeat, "audit", "verify", *files, "-o", "json"], capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout)


def read(files):
    """The whole lines; what a kill cut short stands at an end, or before the next start's mark."""
    lines = []
    for file in files:
        for line in file.read_bytes().split(b"\n"):
            try:
                lines.append(json.loads(line))
            except ValueError:
                pass
    return lines
