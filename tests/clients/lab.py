"""What every trial of a running proxy needs: a folder, certificates, processes that end. Standard library only.

Used by `tests/clients` and `benches/figures`. Certificates are made with openssl when asked for and live, as
everything else, in a folder that goes with the run: no key of ours is ever stored.
"""

import base64
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What is zero when nothing is under way.
IN_HAND = ('exeat_in_use{resource="connections"}', 'exeat_in_use{resource="dials"}', 'exeat_pool_connections{state="active"}')


def need(*tools):
    """Ends the run when a tool is missing: a trial that skips what it cannot do proves nothing."""
    missing = [tool for tool in tools if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin")]
    if missing:
        sys.exit(f"missing: {', '.join(missing)} (on Debian: apt-get install {' '.join(missing)})")


def free_port():
    """A port nobody listens on now. Only for programs that can't be asked for port 0."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def wait_for_port(port, program, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end and program.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{program.command[0]} does not listen on port {port}; it said:\n{program.said()[-2000:]}")


def openssl(*arguments, folder, data=None):
    done = subprocess.run(["openssl", *arguments], cwd=folder, input=data, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"openssl {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout


def until(what, condition, seconds=30):
    """Waits for what a program at work will bring about, and fails loudly where it does not."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.01)


class Authority:
    """A certificate authority (ECDSA P-256) that lives as long as its folder."""

    def __init__(self, folder, name):
        self.folder, self.certificate, self.key = folder, folder / f"{name}.pem", folder / f"{name}.key"
        self._key(self.key)
        openssl("req", "-x509", "-new", "-key", self.key.name, "-sha256", "-days", "2", "-subj", f"/CN=exeat trial {name}",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                "-out", self.certificate.name, folder=folder)

    def _key(self, path):
        path.touch(mode=0o600)
        path.write_bytes(openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", folder=self.folder))

    def issue(self, name, hosts):
        """Server certificate for these DNS names: (certificate path, key path)."""
        key, request, certificate, extensions = (self.folder / f"{name}.{x}" for x in ("key", "csr", "pem", "ext"))
        self._key(key)
        extensions.write_text("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n"
                              f"subjectAltName={','.join('DNS:' + host for host in hosts)}\n")
        openssl("req", "-new", "-key", key.name, "-subj", f"/CN={name}", "-out", request.name, folder=self.folder)
        openssl("x509", "-req", "-in", request.name, "-CA", self.certificate.name, "-CAkey", self.key.name, "-set_serial",
                str(time.time_ns()), "-days", "2", "-sha256", "-extfile", extensions.name, "-out", certificate.name, folder=self.folder)
        return certificate, key


class Program:
    """A process with its output in a file; as a context manager it ends with its block."""

    def __init__(self, command, log, env=None):
        self.log, self.command = log, [str(word) for word in command]
        with open(log, "wb") as out:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)

    @property
    def pid(self):
        return self.process.pid

    def said(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern, seconds=20):
        """First match of `pattern` in what it says."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.search(pattern, self.said()):
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        state = f"ended with {self.process.returncode}" if self.process.poll() is not None else f"silent for {seconds} s"
        raise RuntimeError(f"{self.command[0]}: {state}; waited for `{pattern}`; it said:\n{self.said()[-2000:]}")

    def listening(self, seconds=20):
        """The port that it says it listens on."""
        return int(self.wait_for(r"listening on 127\.0\.0\.1:(\d+)", seconds)[1])

    def stop(self, seconds=10):
        """SIGTERM, then SIGKILL; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Metrics:
    """The admin door, asked over one connection: it counts in what it tells, always once."""

    def __init__(self, address):
        self.door = http.client.HTTPConnection(address, timeout=10)

    def __call__(self):
        try:
            text = self._ask()
        except (http.client.HTTPException, ConnectionError):  # the door ended it, idle
            self.door.close()
            text = self._ask()
        return {name: float(value) for name, value in re.findall(r"^(exeat_\S+|process_open_fds) (\S+)$", text, re.MULTILINE)}

    def _ask(self):
        self.door.request("GET", "/metrics")
        return self.door.getresponse().read().decode()


class Holding:
    """What exeat has in hand, by the `metrics()` (name to value) of whoever inherits this."""

    def held(self):
        """What a request or a tunnel has while it lives, and must give back."""
        return {name: value for name, value in self.metrics().items()
                if name.startswith(("exeat_in_use", "exeat_pool", "process_open_fds"))}

    def clients(self):
        return self.metrics()['exeat_in_use{resource="connections"}']

    def settled(self):
        """The same once exeat serves nobody and dials nobody."""
        until("exeat to have nothing in hand", lambda: not any(self.held()[name] for name in IN_HAND))
        return self.held()

    def gives_back(self, before):
        """Waits until exeat has no more in hand than `before`. Less it may: what idles in a pool is dropped some time."""
        until("exeat to give back what it held", lambda: all(value <= before.get(name, 0) for name, value in self.held().items()))


def key_id_of(account, filler="EXAMPLE"):
    """An access key id that decodes to this account (facts: characters 5 to 12 are base32 of the account, shifted by 7 bits)."""
    number = (1 << 47) | (int(account) << 7)
    text = base64.b32encode(number.to_bytes(6, "big") + b"\0\0\0\0").decode()
    return "AKIA" + (text[:10] + filler + "AAAAAAAA")[:16]


def exeat_command(exeat, folder, *, policy, credentials, audit, upstream_ca, connect_to, ca=None):
    """`exeat run` on a free port of 127.0.0.1; with `ca` (an `Authority`) its leaves come from there."""
    command = [exeat, "run", "--listen", "127.0.0.1:0", "--policy", policy, "--credentials", credentials, "--audit", audit,
               "--upstream-ca", upstream_ca, "--ca-out", folder / "exeat-ca.pem"]
    if ca:
        command += ["--ca-cert", ca.certificate, "--ca-key", ca.key]
    for rule in connect_to:
        command += ["--connect-to", rule]
    return command


def credentials_file(path, **profiles):
    """AWS shared-credentials file of `name=(key id, secret)`."""
    path.touch(mode=0o600)
    path.write_text("".join(f"[{name}]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n"
                            for name, (key, secret) in profiles.items()))
    return path
