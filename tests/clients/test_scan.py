"""What the client's leg offers, as a scanner sees it; and sessions, as openssl keeps them."""

import socket
import subprocess
import threading
import xml.etree.ElementTree as ElementTree

import lab
from world import REGION, Trial

HOST = f"sts.{REGION}.amazonaws.com"
BELIEVED = {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256",
            "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"}


class Relay:
    """A port that is the inside of a CONNECT, for tools that know no proxy."""

    def __init__(self, proxy):
        self.proxy, self.listener = proxy, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        with near, socket.create_connection(("127.0.0.1", self.proxy)) as far:
            far.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                answer += far.recv(1)
            back = threading.Thread(target=self._pass, args=(far, near), daemon=True)
            back.start()
            self._pass(near, far)
            back.join(10)

    @staticmethod
    def _pass(source, sink):
        try:
            while piece := source.recv(65536):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self.listener.close()


class Scan(Trial):
    def test_a_scanner_finds_nothing_below_the_floor_and_no_weak_suite(self):
        relay = Relay(self.world.port)
        self.addCleanup(relay.close)
        done = subprocess.run(["sslscan", "--no-colour", "--xml=-", f"--sni-name={HOST}", f"127.0.0.1:{relay.port}"],
                              capture_output=True, timeout=300)
        found = ElementTree.fromstring(done.stdout).find("ssltest")
        protocols = {f"{one.get('type')} {one.get('version')}": one.get("enabled") == "1" for one in found.iter("protocol")}
        self.assertEqual({name for name, enabled in protocols.items() if enabled}, {"tls 1.2", "tls 1.3"}, protocols)
        self.assertLessEqual({"ssl 2", "ssl 3", "tls 1.0", "tls 1.1"}, set(protocols))
        ciphers = {(one.get("sslversion"), one.get("cipher")) for one in found.iter("cipher")}
        self.assertEqual({version for version, _ in ciphers}, {"TLSv1.2", "TLSv1.3"})
        self.assertEqual({cipher for _, cipher in ciphers} - BELIEVED, set())
        # A scanner whose OpenSSL has no compression says nothing of it.
        self.assertNotIn("1", {one.get("supported") for one in found.iter("compression")})
        self.assertEqual({one.get("vulnerable") for one in found.iter("heartbleed")}, {"0"})
        self.assertNotIn("1", {one.get("supported") for one in found.iter("renegotiation")})


class Sessions(Trial):
    def second(self, port, ca, version):
        """`New` or `Reused`: what openssl says of a connection that brings the session of the one before."""
        session = self.world.folder / "session.pem"
        session.unlink(missing_ok=True)

        def once(*options):
            # A TLS 1.3 ticket comes behind the handshake: the answer to a request is there after it.
            request = f"GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()
            done = subprocess.run(["openssl", "s_client", "-proxy", f"127.0.0.1:{port}", "-connect", f"{HOST}:443", "-servername", HOST,
                                   "-CAfile", ca, version, "-ign_eof", *options], input=request, capture_output=True, timeout=20)
            return done.stdout.decode(errors="replace")

        self.assertIn("New, TLSv1.", once("-sess_out", session))
        if not session.exists():
            return "New"
        said = once("-sess_in", session)
        return "Reused" if "Reused, TLSv1." in said else "New"

    def test_sessions_are_resumed_unless_the_settings_say_no(self):
        world = self.world
        for version in ("-tls1_2", "-tls1_3"):
            with self.subTest(version, resumption=True):
                self.assertEqual(self.second(world.port, world.ca, version), "Reused")
        folder = world.folder / "no-resumption"
        folder.mkdir()
        (folder / "exeat.yaml").write_text("tls: {client: {resumption: false}}\n")
        command = [world.program, "run", "--listen", "127.0.0.1:0", "--config", folder / "exeat.yaml", "--audit", folder / "audit.jsonl",
                   "--credentials", world.folder / "credentials", "--ca-out", folder / "ca.pem"]
        with lab.Program(command, folder / "log") as exeat:
            port = exeat.listening()
            for version in ("-tls1_2", "-tls1_3"):
                with self.subTest(version, resumption=False):
                    self.assertEqual(self.second(port, folder / "ca.pem", version), "New")
