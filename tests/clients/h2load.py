#!/usr/bin/env python3
"""h2load against the client's leg of an intercepted connection: tests/clients/h2load.py EXEAT [REQUESTS]

10,000 requests on 10 connections with 100 streams each: all are answered 200, and each has its two records. h2load
knows no proxy, so h2spec's relay asks for CONNECT in its place. The origin is nginx, over HTTP/2. Needs h2load (Debian:
nghttp2-client), nginx and openssl.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import lab
from audit import Audit
from h2spec import relay

CONNECTIONS, STREAMS = 10, 100


def nginx(folder, port, certificate, key):
    (folder / "www").mkdir()
    (folder / "www/load").write_text("x" * 200)
    folder.chmod(0o755)  # nginx drops root for its worker
    conf = folder / "origin.conf"
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    conf.write_text(f"""daemon off; worker_processes 1; pid {folder}/origin.pid; error_log stderr warn;
        events {{ worker_connections 2048; }}
        http {{ access_log off; {temporary} keepalive_requests 1000000; default_type text/plain;
          server {{ listen 127.0.0.1:{port} ssl http2; root {folder}/www; ssl_certificate {certificate}; ssl_certificate_key {key}; }} }}""")
    program = lab.Program([shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin"), "-e", "stderr", "-c", conf], folder / "origin.log")
    lab.wait_for_port(port, program)
    return program


def main():
    exeat, requests = Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    lab.need("h2load", "nginx", "openssl")
    with tempfile.TemporaryDirectory(prefix="exeat-h2load-") as name:
        folder = Path(name)
        authority = lab.Authority(folder, "origin-ca")
        certificate, key = authority.issue("origin", ["localhost"])
        origin = lab.free_port()
        # h2load names the port it dials in `:authority`: the relay's own is the one that is allowed.
        front = socket.create_server(("127.0.0.1", 0))
        target = f"localhost:{front.getsockname()[1]}"
        policy, audit = folder / "policy.yaml", folder / "audit.jsonl"
        policy.write_text(f'version: 1\nstatements:\n  - {{id: load, effect: allow, alpn: h2, http: {{host: "{target}"}}}}\n')
        command = lab.exeat_command(exeat, folder, policy=policy, audit=audit, upstream_ca=authority.certificate,
                                    credentials=lab.credentials_file(folder / "credentials"),
                                    connect_to=[f"{target}=127.0.0.1:{origin}"])
        with nginx(folder, origin, certificate, key), lab.Program(command, folder / "exeat.log") as program:
            threading.Thread(target=relay, args=(front, program.listening(), target), daemon=True).start()
            done = subprocess.run(["h2load", "-n", str(requests), "-c", str(CONNECTIONS), "-m", str(STREAMS), f"https://{target}/load"],
                                  capture_output=True, text=True, timeout=600)
        # It has ended in order, so every record is there.
        told = re.search(r"^requests: .*$", done.stdout, re.M)
        codes = re.search(r"^status codes: .*$", done.stdout, re.M)
        print(told[0] if told else done.stdout + done.stderr)
        intents, events = Audit(audit).since(0)
        whole = subprocess.run([exeat, "audit", "verify", audit], capture_output=True, text=True)
    wrong = []
    if not told or f"{requests} succeeded" not in told[0] or not codes or not codes[0].startswith(f"status codes: {requests} 2xx"):
        wrong.append("not every request was answered 200: " + done.stdout[-2000:])
    print(f"records: {len(intents)} intents, {len(events)} events")
    if len({line["flow"] for line in intents}) != requests or {line["flow"] for line in intents} != {event.flow for event in events}:
        wrong.append(f"not one intent and one event for each of {requests} requests")
    if len(intents) != requests or len(events) != requests:
        wrong.append(f"{len(intents)} intents and {len(events)} events, not {requests} of each")
    if whole.returncode:
        wrong.append(f"audit verify: {whole.stdout}{whole.stderr}")
    print(whole.stdout.strip())
    if wrong:
        print("\n".join(str(event.ours) for event in events if event.ours.get("status") != 200)[:2000])
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
