"""Writes tests/vectors/captured: what the AWS SDKs of test_sdks.py put on the wire, under AWS's own example keys.

    target/clients-venv/bin/python tests/clients/capture.py EXEAT [NAME...]      after tests/clients/run has installed the SDKs

Each program runs under `exeat exec`, as its users run it. A recorder behind exeat keeps every request and hands it to moto.
exeat passes a request's head and body on as they came, so what is kept is what the SDK signed.
"""

import base64
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import parse_qs

import lab
import matrix
import origin
import test_events
import test_sdks
import world

# Of AWS's documentation; the token is nobody's.
KEY, SECRET, TOKEN = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "FQoGZXIvYXdzEXAMPLEtoken/+=="
PROGRAMS = {
    "boto3": (*matrix.PYTHON, "calls", "all"),
    "javascript": (*matrix.NODE, "calls", "all"),
    "go": (*matrix.GO, "calls", "all"),
    "java": ("java", "-cp", matrix.CLASSES, "Calls"),
}
STREAMS = {"go-events": (*matrix.GO, "events", "good"), "javascript-events": (*matrix.NODE, "events", "good")}
FOLDER = lab.ROOT / "tests" / "vectors" / "captured"


class Recorder:
    """TLS towards exeat, TLS towards moto, and every request between."""

    def __init__(self, certificate, key, port):
        self.requests, self.port_of_moto, self.lock = [], port, threading.Lock()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            peer, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        try:
            client = self.context.wrap_socket(peer, server_side=True)
            moto = trusting.wrap_socket(socket.create_connection(("127.0.0.1", self.port_of_moto)))
        except OSError:
            return
        threading.Thread(target=self._back, args=(moto, client), daemon=True).start()
        held = b""
        try:
            while piece := client.recv(65536):
                moto.sendall(piece)
                held += piece
                while (request := first(held)) is not None:
                    kept, held = request
                    with self.lock:
                        self.requests.append(kept)
        except OSError:
            pass

    @staticmethod
    def _back(moto, client):
        try:
            while piece := moto.recv(65536):
                client.sendall(piece)
            client.close()
        except OSError:
            pass


def first(held):
    """The first whole request in these bytes and what follows it; the framing of `Transfer-Encoding` is taken off."""
    head, blank, rest = held.partition(b"\r\n\r\n")
    if not blank:
        return None
    line, *lines = head.decode().split("\r\n")
    headers = [tuple(part.strip() for part in field.split(":", 1)) for field in lines]
    fields = {name.lower(): value for name, value in headers}
    if "chunked" in fields.get("transfer-encoding", "").lower():
        body = b""
        while True:
            size, crlf, rest = rest.partition(b"\r\n")
            length = int(size or b"0", 16)
            if not crlf or len(rest) < length + 2:
                return None
            body, rest = body + rest[:length], rest[length + 2:]
            if not length:
                break
    else:
        length = int(fields.get("content-length", 0))
        if len(rest) < length:
            return None
        body, rest = rest[:length], rest[length:]
    method, target, _ = line.split(" ")
    return {"method": method, "target": target, "headers": headers, "body": body}, rest


def written(name, number, request):
    fields = {field.lower(): value for field, value in request["headers"]}
    date = fields.get("x-amz-date") or parse_qs(request["target"].partition("?")[2])["X-Amz-Date"][0]
    at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    return json.dumps({
        "id": f"{name}-{number:02}", "access_key_id": KEY, "secret_access_key": SECRET, "session_token": TOKEN, "at": int(at.timestamp()),
        "method": request["method"], "target": request["target"], "headers": request["headers"],
        "body_b64": base64.b64encode(request["body"]).decode(), "expect": "valid"})


def main(exeat, *names):
    variables = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": TOKEN, "AWS_ACCOUNT_ID": world.ACCOUNT,
                 "AWS_REGION": world.REGION, "AWS_DEFAULT_REGION": world.REGION}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        authority = lab.Authority(folder, "origin-ca")
        certificate, key = authority.issue("origin", origin.AWS_HOSTS)
        moto = origin.Moto(certificate, key)
        recorder = Recorder(certificate, key, moto.port)
        base = world.clean_environment() | variables | {"HOME": str(folder), "NODE_PATH": str(lab.ROOT / "target/clients-node/node_modules")}
        under, star = [exeat, "exec", "--quiet", "--upstream-ca", authority.certificate], ("--connect-to", f"*:443=127.0.0.1:{recorder.port}")
        run = lambda *child, policy: subprocess.run([str(word) for word in (*under, *policy, *star, "--", *child)], env=base, cwd=Path(__file__).parent, check=True)
        run(sys.executable, "-c", "import test_sdks; test_sdks.prepare()", policy=("--policy", Path(__file__).parent / "policy.yaml"))
        FOLDER.mkdir(exist_ok=True)
        wanted = lambda programs: [(name, program) for name, program in programs.items() if name in names or not names]
        for name, program in wanted(PROGRAMS):
            recorder.requests.clear()
            run(*program, policy=test_sdks.POLICY)
            # What exeat asks of its own names no program.
            kept = [request for request in recorder.requests if any(n.lower() == "user-agent" for n, _ in request["headers"])]
            assert len(kept) == len(test_sdks.CALLS), (name, len(kept))
            (FOLDER / f"{name}.jsonl").write_text("".join(written(name, n, request) + "\n" for n, request in enumerate(kept)))
            print(name, len(kept), "requests")
        # One stream each, whose other side answers as they go on.
        server = test_events.model(certificate, key)
        for name, program in wanted(STREAMS):
            run(*program, policy=test_events.flags(folder, server))
            stream = test_events.Model.streams.pop()
            request = {"method": "POST", "target": stream["path"], "headers": stream["fields"], "body": stream["body"]}
            (FOLDER / f"{name}.jsonl").write_text(written(name, 0, request) + "\n")
            print(name)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), *sys.argv[2:])
