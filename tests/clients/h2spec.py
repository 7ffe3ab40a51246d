#!/usr/bin/env python3
"""h2spec, strict, against the client's leg of an intercepted connection: tests/clients/h2spec.py EXEAT

h2spec knows no proxy, so a relay asks for CONNECT in its place. It is built with go into target/go, once. Needs go,
openssl; everything else is Python's own.
"""

import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import lab

H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@latest"


class Origin(BaseHTTPRequestHandler):
    """Reads what it is sent, and answers with a body that h2spec can tell windows by."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        if length := self.headers.get("Content-Length"):
            self.rfile.read(int(length))
        elif "Transfer-Encoding" in self.headers:
            while (line := self.rfile.readline()) and int(line, 16):
                self.rfile.read(int(line, 16) + 2)
            if not line:
                self.close_connection = True  # it broke off
                return
            self.rfile.readline()
        self.send_response(200)
        self.send_header("Content-Length", "200")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"x" * 200)

    do_GET = do_HEAD = do_POST = do_OPTIONS = answer

    def log_message(self, *_):
        pass


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # half of h2spec's requests end in the middle


def pump(source, sink):
    try:
        while piece := source.recv(65536):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        sink.close()


def relay(front, proxy, target):
    while True:
        client, _ = front.accept()
        tunnel = socket.create_connection(("127.0.0.1", proxy))
        tunnel.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += tunnel.recv(1)
        for ends in ((client, tunnel), (tunnel, client)):
            threading.Thread(target=pump, args=ends, daemon=True).start()


def main():
    exeat = Path(sys.argv[1]).resolve()
    lab.need("go", "openssl")
    tools = lab.ROOT / "target" / "go"
    if not (tools / "h2spec").exists():
        subprocess.run(["go", "install", H2SPEC], check=True, env=os.environ | {"GOBIN": str(tools)})
    with tempfile.TemporaryDirectory(prefix="exeat-h2spec-") as name:
        folder = Path(name)
        authority = lab.Authority(folder, "origin-ca")
        certificate, key = authority.issue("origin", ["localhost"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        origin = Quiet(("127.0.0.1", 0), Origin)
        origin.socket = context.wrap_socket(origin.socket, server_side=True)
        threading.Thread(target=origin.serve_forever, daemon=True).start()
        # h2spec names the port it dials in `:authority`: the relay's own is the one that is allowed.
        front = socket.create_server(("127.0.0.1", 0))
        target = f"localhost:{front.getsockname()[1]}"
        policy = folder / "policy.yaml"
        policy.write_text(f'version: 1\nstatements:\n  - {{id: spec, effect: allow, alpn: h2, http: {{host: "{target}"}}}}\n')
        command = lab.exeat_command(exeat, folder, policy=policy, audit=folder / "audit.jsonl", upstream_ca=authority.certificate,
                                    credentials=lab.credentials_file(folder / "credentials"),
                                    connect_to=[f"{target}=127.0.0.1:{origin.server_port}"])
        with lab.Program(command, folder / "exeat.log") as program:
            threading.Thread(target=relay, args=(front, program.listening(), target), daemon=True).start()
            host, port = target.split(":")
            done = subprocess.run([tools / "h2spec", "--strict", "--tls", "--insecure", "--timeout", "5", "--host", host, "--port", port],
                                  capture_output=True, text=True)
    told = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    print(told[0] if told else done.stdout + done.stderr)
    if not told or told[1] != told[2]:
        sys.exit(done.stdout[-8000:])


if __name__ == "__main__":
    main()
