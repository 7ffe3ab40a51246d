"""Hellos that no current client sends: old forms by tlslite-ng, odd offers by openssl. Each is named, none is dropped."""

import socket
import subprocess

from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.errors import TLSAbruptCloseError, TLSAlert

from world import REGION, Trial

HOST = f"sts.{REGION}.amazonaws.com"


class Hellos(Trial):
    def connected(self):
        """A socket behind a CONNECT that was answered 200."""
        plain = socket.create_connection(("127.0.0.1", self.world.port), 10)
        self.addCleanup(plain.close)
        plain.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += plain.recv(1)
        self.assertIn(b" 200 ", answer)
        return plain

    def hello(self, *options, name=HOST):
        named = ["-servername", name] if name else ["-noservername"]
        done = subprocess.run(["openssl", "s_client", "-proxy", f"127.0.0.1:{self.world.port}", "-connect", f"{HOST}:443",
                               "-CAfile", self.world.ca, *named, *options], input=b"", capture_output=True, timeout=20)
        return done.stdout.decode() + done.stderr.decode()

    def test_an_sslv3_client_is_named_and_told(self):
        settings = HandshakeSettings()
        settings.minVersion = settings.maxVersion = (3, 0)
        with self.refused("tls.below_floor", key_id=None) as refusal:
            with self.assertRaises((TLSAlert, TLSAbruptCloseError)):
                TLSConnection(self.connected()).handshakeClientCert(settings=settings, serverName=HOST)
        self.assertIn("SSLv3", refusal.event["errorMessage"])

    def test_an_sslv2_hello_is_named_by_what_it_asks_for(self):
        for version, named in ((b"\x00\x02", "SSLv2"), (b"\x03\x01", "TLSv1.0, in an SSLv2 hello")):
            with self.subTest(named), self.refused("tls.below_floor", key_id=None) as refusal:
                plain = self.connected()
                plain.sendall(b"\x80\x1f\x01" + version + b"\x00\x06\x00\x00\x00\x10" + b"\x01\x00\x80\x02\x00\x80" + bytes(16))
                self.assertEqual(plain.recv(16), b"\x15\x03\x01\x00\x02\x02\x46")
            self.assertIn(named, refusal.event["errorMessage"])

    def test_suites_that_are_not_believed_are_refused(self):
        for suites in ("AES128-GCM-SHA256:AES256-SHA", "ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA", "aNULL:eNULL"):
            with self.subTest(suites), self.refused("tls.handshake", key_id=None):
                self.assertIn("alert handshake failure", self.hello("-tls1_2", "-cipher", f"{suites}:@SECLEVEL=0"))

    def test_no_name_and_another_name_are_refused(self):
        with self.refused("tls.no_sni", key_id=None):
            self.hello(name=None)
        with self.refused("target.mismatch", key_id=None):
            self.hello(name="evil.test")
