"""Every case of `tests/vectors/tls/cases.json`, played through a running exeat; and one check that all which are refused pass
through: one record with the reason, one count, no panic, nothing left behind, and the next clean request works."""

import http.client
import json
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import unittest
from pathlib import Path

from cryptography.x509.oid import ExtendedKeyUsageOID

import audit
import lab
import peers
import wire
from world import clean_environment

CASES = {case["id"]: case for case in json.loads((lab.ROOT / "tests" / "vectors" / "tls" / "cases.json").read_text())["cases"]}
APP = "app.test"
OLD = ["-cipher", "ALL:@SECLEVEL=0"]

# Cases of the upstream leg: why they are refused, with a word of the record's message. None: they are served.
UPSTREAM = {
    "u-ok-13": None, "u-ok-12": None, "x-ok": None,
    "u-tls10": ("upstream.below_floor", "less than TLS 1.2"), "u-tls11": ("upstream.below_floor", "less than TLS 1.2"),
    "u-cipher-rsa-kx": ("upstream.tls", "handshake_failure"), "u-plain": ("upstream.not_tls", ""),
    "u-stall": ("upstream.timeout", ""),
    "x-expired": ("upstream.certificate", "expired"), "x-not-yet": ("upstream.certificate", "not_yet_valid"),
    "x-wrong-host": ("upstream.certificate", "it is for `other.test`"), "x-self-signed": ("upstream.certificate", "self_signed"),
    "x-untrusted": ("upstream.certificate", "unknown_issuer"), "x-own-ca": ("upstream.certificate", "unknown_issuer"),
    "x-sha1-leaf": ("upstream.certificate", "weak"), "x-rsa1024": ("upstream.certificate", "weak"),
    "x-cn-only": ("upstream.certificate", "name_mismatch"), "x-wild-deep": ("upstream.certificate", "it is for `*.b.test`"),
    "x-eku-client": ("upstream.certificate", "wrong_purpose"), "x-ca-leaf": ("upstream.certificate", ""),
    "x-leaf-signs": ("upstream.certificate", ""), "x-bad-sig": ("upstream.certificate", "bad_signature"),
    "x-revoked-crl": ("upstream.certificate", "revoked"),
}
# Those that nobody refuses or accepts, and two hellos that no tool at hand sends: the test that shows each.
ELSEWHERE = {
    "c-x25519mlkem768": ("src/tls/handshake/tests.rs", "clients_that_trust_the_ca_shake_hands_at_1_3_and_1_2"),
    "c-hello-late-sni": ("src/engine/hello/tests.rs", "finds_the_name_past_a_post_quantum_share_and_padding"),
    "l-san": ("src/tls/mint/tests.rs", "the_leaf_says_exactly_what_it_must"),
    "l-ca": ("src/tls/mint/tests.rs", "the_ca_may_sign_leaves_only_and_its_name_is_its_own"),
    "l-ca-modes": ("src/tls/mint/tests.rs", "a_key_that_others_may_read_is_made_private"),
    "l-upstream-bad": ("tests/clients/test_tls_vectors.py", "test_the_upstream_leg"),
    "p-h2-reuse": ("src/proxy/pool.rs", "never_reuses_a_connection_across_authorities_policies_or_trust"),
    "p-key-policy": ("src/proxy/pool.rs", "never_reuses_a_connection_across_authorities_policies_or_trust"),
    "chain-connect": ("tests/exec/upstream.rs", "a_proxy_that_fails_is_not_gone_around"),
    "chain-down": ("tests/exec/upstream.rs", "a_proxy_that_fails_is_not_gone_around"),
}


def host_of(case):
    return "x.a.b.test" if case == "x-wild-deep" else f"{case}.test"


class Bench(lab.Holding):
    """exeat, and behind it a server for each host of `ports`."""

    def __init__(self, program, folder, ports, root, ca=None, settings="{}\n"):
        self.folder, self.policy, self.ca = folder, folder / "policy.yaml", folder / "exeat-ca.pem"
        self.allow(list(ports))
        (folder / "exeat.yaml").write_text(settings)
        self.audit = audit.Audit(folder / "audit.jsonl", self.clients)
        command = lab.exeat_command(program, folder, policy=self.policy, credentials=lab.credentials_file(folder / "credentials"), audit=self.audit.path,
                                    upstream_ca=root, connect_to=[f"{host}:443=127.0.0.1:{port}" for host, port in ports.items()], ca=ca)
        self.exeat = lab.Program(command + ["--config", folder / "exeat.yaml", "--admin", "127.0.0.1:0", "--workers", "1"], folder / "exeat.log",
                                 clean_environment())
        self.port = self.exeat.listening()
        self.metrics = lab.Metrics(self.exeat.wait_for(r"admin door on (\S+)")[1])

    def allow(self, hosts):
        self.policy.write_text(f"version: 1\nstatements:\n  - {{id: all, effect: allow, http: {{host: [{', '.join(hosts)}]}}}}\n")

    def refusals(self):
        found = ((re.fullmatch(r'exeat_refusals_total\{reason="(.*)"\}', name), value) for name, value in self.metrics().items())
        return {match[1]: value for match, value in found if match and value}

    def get(self, host):
        """One GET as a client makes it, over a connection of its own."""
        request = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        return wire.through(self.port, self.ca, host, request)

    def connected(self, host=APP):
        stream, answer = wire.connect(self.port, f"{host}:443")
        assert answer.status == 200, answer
        return stream

    def openssl(self, *options, host=APP, data=b""):
        """openssl's client inside a CONNECT; what it said."""
        done = subprocess.run(["openssl", "s_client", "-proxy", f"127.0.0.1:{self.port}", "-connect", f"{host}:443", "-CAfile", self.ca, *options],
                              input=data, capture_output=True, timeout=30)
        return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")

    def stop(self):
        self.exeat.stop()


class TlsVectors(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        from world import WORLD
        temporary = tempfile.TemporaryDirectory(prefix="exeat-vectors-")
        cls.addClassCleanup(temporary.cleanup)
        folder = cls.folder = Path(temporary.name)
        root, other = peers.issue("vectors root", ca=True), peers.issue("other root", ca=True)
        middle = peers.issue("vectors middle", root, ca=True)
        good = peers.issue(APP, root)
        ours = lab.Authority(folder, "ours")
        own = peers.Issued(peers.x509.load_pem_x509_certificate(ours.certificate.read_bytes()),
                           peers.serialization.load_pem_private_key(ours.key.read_bytes(), None))
        name, leaf = host_of, lambda case, **more: peers.issue(host_of(case), root, **more)
        revoked = leaf("x-revoked-crl")
        shown = {
            "u-ok-13": (leaf("u-ok-13"), "-tls1_3"), "u-ok-12": (leaf("u-ok-12"), "-tls1_2"), "x-ok": (peers.issue(name("x-ok"), middle),),
            "u-tls10": (leaf("u-tls10"), "-tls1", *OLD), "u-tls11": (leaf("u-tls11"), "-tls1_1", *OLD),
            "u-cipher-rsa-kx": (leaf("u-cipher-rsa-kx", key=peers.rsa_key(2048)), "-tls1_2", "-cipher", "AES128-GCM-SHA256"),
            "x-expired": (leaf("x-expired", start=-2 * peers.DAY, end=-peers.MINUTE),), "x-not-yet": (leaf("x-not-yet", start=peers.DAY, end=2 * peers.DAY),),
            "x-wrong-host": (leaf("x-wrong-host", san="other.test"),), "x-self-signed": (peers.issue(name("x-self-signed")),),
            "x-untrusted": (peers.issue(name("x-untrusted"), other),), "x-own-ca": (peers.issue(name("x-own-ca"), own),),
            "x-sha1-leaf": (peers.with_sha1(name("x-sha1-leaf"), root, folder),), "x-rsa1024": (leaf("x-rsa1024", key=peers.rsa_key(1024)),),
            "x-cn-only": (leaf("x-cn-only", san=False),), "x-wild-deep": (leaf("x-wild-deep", san="*.b.test"),),
            "x-eku-client": (leaf("x-eku-client", purpose=ExtendedKeyUsageOID.CLIENT_AUTH),), "x-ca-leaf": (leaf("x-ca-leaf", ca=True),),
            "x-leaf-signs": (peers.issue(name("x-leaf-signs"), leaf("x-leaf-signs")),), "x-bad-sig": (peers.with_a_bit_flipped(leaf("x-bad-sig")),),
            "x-revoked-crl": (revoked,),
        }
        servers = {host_of(case): peers.OpenSsl(what[0], folder, case, *what[1:]) for case, what in shown.items()}
        servers |= {APP: peers.OpenSsl(good, folder, "app"), "u-plain.test": peers.Scripted(peers.plain_http),
                    "u-stall.test": peers.Scripted(peers.silent), "u-renego.test": peers.Renegotiating(leaf("u-renego"), folder, "u-renego"),
                    "u-truncate.test": peers.Scripted(peers.truncating(*leaf("u-truncate").files(folder, "u-truncate")))}
        for server in servers.values():
            cls.addClassCleanup(server.stop)
        (folder / "gone.crl").write_bytes(peers.revoked(revoked, root))
        settings = f"tls: {{origins: {{x-revoked-crl.test: {{crls: [{folder / 'gone.crl'}]}}}}}}\n"
        cls.leaves = {host_of(case): what[0].certificate for case, what in shown.items()}
        ports, anchor = {host: server.port for host, server in servers.items()}, root.files(folder, "root")[0]
        cls.ports = ports

        def bench(name, settings, ca=None):
            (folder / name).mkdir()
            made = Bench(WORLD.program, folder / name, ports, anchor, ca, settings)
            cls.addClassCleanup(made.stop)
            return made

        cls.bench = bench("patient", settings, ours)
        # For what ends by a time limit; no other case may meet one, however busy the machine.
        cls.hasty = bench("hasty", "limits: {handshake: 1s, body_idle: 2s}\n")
        cls.reloaded = bench("reloaded", "{}\n")

    def clean(self, bench):
        """A request that nothing is wrong with, and its record."""
        mark = bench.audit.mark()
        self.assertEqual(bench.get(APP).status, 200)
        _, events = bench.audit.settled(mark)
        self.assertEqual([(event.ours["end"], event.ours.get("reason")) for event in events], [("answered", None)])

    def refused(self, play, reason, word="", *, bench=None, sent=False):
        """What holds of each refusal, whichever it is. `sent`: the origin had the request already. Gives what `play` gave."""
        bench = bench or self.bench
        self.clean(bench)
        held, counted, mark = bench.settled(), bench.refusals(), bench.audit.mark()
        played = play()
        intents, events = bench.audit.settled(mark)
        self.assertEqual([event.ours.get("reason") for event in events], [reason], events)
        self.assertIn(word, events[0]["errorMessage"])
        self.assertEqual(len(intents), int(sent), intents)
        counted[reason] = counted.get(reason, 0) + 1
        self.assertEqual(bench.refusals(), counted)
        bench.gives_back(held)
        said = bench.exeat.said()
        self.assertFalse("panicked" in said or bench.exeat.process.poll() is not None, said)
        self.clean(bench)
        self.event, = events
        return played

    def test_each_case_has_its_place(self):
        played = {name.removeprefix("case_").replace("_", "-") for name in dir(self) if name.startswith("case_")}
        for one, other in ((played, UPSTREAM), (played, ELSEWHERE), (UPSTREAM, ELSEWHERE)):
            self.assertEqual(set(one) & set(other), set())
        self.assertEqual(played | set(UPSTREAM) | set(ELSEWHERE), set(CASES))
        for case, (file, test) in ELSEWHERE.items():
            self.assertRegex((lab.ROOT / file).read_text(), rf"(fn|def) {test}\(", case)
        for case, why in UPSTREAM.items():
            self.assertEqual(CASES[case]["expect"], "refuse" if why else "accept", case)

    def test_the_upstream_leg(self):
        for case, why in UPSTREAM.items():
            with self.subTest(case):
                if why is None:
                    self.assertEqual(self.bench.get(host_of(case)).status, 200)
                    continue
                bench = self.hasty if case == "u-stall" else self.bench
                answer = self.refused(lambda: bench.get(host_of(case)), *why, bench=bench)
                status = {"upstream.tls": 502, "upstream.timeout": 504}.get(why[0], 403)
                self.assertEqual((answer.status, why[0] in answer.verdict), (status, True), answer)
                self.showed(case, why[0], self.event.ours["upstream"])

    def showed(self, case, reason, upstream):
        """The record alone tells where that was, and which certificate was refused."""
        self.assertEqual((upstream["address"], upstream["port"]), ("127.0.0.1", self.ports[host_of(case)]))
        self.assertNotIn("tls", upstream)
        shown = upstream.get("shown", {})
        if reason != "upstream.certificate":
            self.assertNotIn("chain", shown)
            return
        self.assertEqual(shown["version"], "TLSv1.3")
        self.assertEqual(shown["chain"][0]["sha256"], self.leaves[host_of(case)].fingerprint(peers.hashes.SHA256()).hex())

    def test_the_clients_leg(self):
        for name in dir(self):
            if name.startswith("case_"):
                with self.subTest(name):
                    getattr(self, name)()

    def case_u_truncate(self):
        def play():
            with self.assertRaises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):
                self.bench.get("u-truncate.test")
        self.refused(play, "upstream.closed", sent=True)

    def case_c_ok_13(self):
        self.assertIn("New, TLSv1.3", self.bench.openssl("-tls1_3", "-alpn", "h2,http/1.1", "-servername", APP))

    def case_c_ok_12(self):
        self.assertIn("New, TLSv1.2", self.bench.openssl("-tls1_2", "-cipher", "ECDHE+AESGCM", "-servername", APP))

    def case_c_tls10(self):
        said = self.refused(lambda: self.bench.openssl("-tls1", *OLD, "-servername", APP), "tls.below_floor", "TLSv1.0")
        self.assertIn("alert protocol version", said)

    def case_c_tls11(self):
        said = self.refused(lambda: self.bench.openssl("-tls1_1", *OLD, "-servername", APP), "tls.below_floor", "TLSv1.1")
        self.assertIn("alert protocol version", said)

    def suites(self, cipher):
        options = ["-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0", "-servername", APP]
        self.assertIn("alert handshake failure", self.refused(lambda: self.bench.openssl(*options), "tls.handshake", "_in_common"))

    def case_c_cipher_cbc(self):
        self.suites("ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES256-SHA384")

    def case_c_cipher_rsa_kx(self):
        self.suites("AES128-GCM-SHA256:AES256-GCM-SHA384")

    def case_c_renego(self):
        """It is told no at once, and goes away like any that asks for nothing: without a record."""
        counter = 'exeat_handshakes_total{leg="client",version="TLSv1.2"}'
        before, mark = self.bench.metrics()[counter], self.bench.audit.mark()
        command = ["openssl", "s_client", "-proxy", f"127.0.0.1:{self.bench.port}", "-connect", f"{APP}:443", "-CAfile", self.bench.ca,
                   "-servername", APP, "-tls1_2"]
        client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.addCleanup(client.kill)
        client.stdin.write(b"R\n")
        client.stdin.flush()
        said = client.stdout.read().decode(errors="replace")
        client.stdin.close()
        client.wait(10)
        self.assertIn("New, TLSv1.2", said)
        self.assertIn("RENEGOTIATING", said)
        self.assertIn("no renegotiation", said)  # and not the end of our patience
        self.assertEqual(self.bench.metrics()[counter], before + 1)
        self.bench.settled()
        self.assertEqual(self.bench.audit.since(mark), ([], []))
        self.clean(self.bench)

    def test_an_origin_that_wants_another_handshake_is_told_no_at_once(self):
        """It would wait for the handshake, and we for its answer: as long as one may take, which is a quarter of an hour."""
        answer = self.refused(lambda: self.bench.get("u-renego.test"), "upstream.closed", "HandshakeFailure", sent=True)
        self.assertEqual(answer.status, 502, answer)
        self.assertEqual(self.event.upstream_tls, "TLSv1.2", "the handshake that it had stands")

    def case_c_no_sni(self):
        self.refused(lambda: self.bench.openssl("-noservername"), "tls.no_sni")

    def case_c_sni_other(self):
        self.refused(lambda: self.bench.openssl("-servername", "other.test"), "target.mismatch", "other.test")

    def cut_up(self, cut):
        with self.bench.connected() as plain:
            request = f"GET / HTTP/1.1\r\nHost: {APP}\r\n\r\n".encode()
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.assertTrue(peers.CutUp(plain, self.bench.ca, APP, cut).ask(request).startswith(b"HTTP/1.1 200"))

    def case_c_hello_split_tcp(self):
        self.cut_up(peers.byte_by_byte)

    def case_c_hello_split_records(self):
        self.cut_up(peers.in_records)

    def case_c_hello_slow(self):
        def play():
            with self.hasty.connected() as plain:
                plain.sendall(b"\x16")
                self.assertEqual(plain.recv(64), b"", "the limit ends it")
        self.refused(play, "tls.handshake", "time limit", bench=self.hasty)

    def case_c_plain_http(self):
        def play():
            with self.bench.connected() as plain:
                plain.sendall(f"GET / HTTP/1.1\r\nHost: {APP}\r\n\r\n".encode())
                self.assertIn(b"403", plain.recv(4096))
        self.refused(play, "tls.not_tls")

    def case_c_early_bytes(self):
        """Together with an allowed CONNECT they are the tunnel's; behind a refused one they are nothing at all."""
        context, into, out = ssl.create_default_context(cafile=self.bench.ca), ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(into, out, server_hostname=APP)
        with self.assertRaises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = out.read()

        def answers(target):
            with socket.create_connection(("127.0.0.1", self.bench.port), 10) as plain:
                plain.sendall(f"CONNECT {target}:443 HTTP/1.1\r\nHost: {target}:443\r\n\r\n".encode() + hello)
                plain.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: plain.recv(65536), b""))

        self.refused(lambda: self.assertRegex(answers("192.0.2.1"), rb"^HTTP/1\.1 403 [^\0]*$"), "target.literal")
        # Half of a handshake: the client went away in the middle of it.
        self.refused(lambda: self.assertRegex(answers(APP), rb"^HTTP/1\.1 200 [^\r]*\r\n\r\n\x16\x03"), "tls.handshake")

    def case_c_0rtt(self):
        session, early = self.folder / "session.pem", self.folder / "early"
        early.write_bytes(f"GET /early HTTP/1.1\r\nHost: {APP}\r\n\r\n".encode())
        request = f"GET / HTTP/1.1\r\nHost: {APP}\r\nConnection: close\r\n\r\n".encode()
        self.bench.openssl("-tls1_3", "-servername", APP, "-ign_eof", "-sess_out", session, data=request)
        said = self.bench.openssl("-tls1_3", "-servername", APP, "-ign_eof", "-sess_in", session, "-early_data", early, data=request)
        self.assertIn("Reused, TLSv1.3", said)
        self.assertNotIn("Early data was accepted", said)

    def denied(self, bench, context=None, again=None):
        """The policy denies the host from now on; a client that was served before is not any more."""
        request = f"GET / HTTP/1.1\r\nHost: {APP}\r\n\r\n".encode()
        context = ssl.create_default_context(cafile=bench.ca)
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # its session is there with the handshake
        bench.allow([APP])
        self.reload(bench)
        with context.wrap_socket(bench.connected(), server_hostname=APP) as served:
            session = served.session
            self.assertEqual(self.asked(served, request), 200)
            # Not within `refused`, whose clean requests need the policy as it was.
            bench.allow(["nobody.test"])
            self.reload(bench)
            mark = bench.audit.mark(clients=1)
            yield served, session, context, request
            _, events = bench.audit.settled(mark, clients=None)
            self.assertEqual([event.ours["reason"] for event in events], ["policy.no_match"])
        bench.allow([APP])
        self.reload(bench)
        self.clean(bench)

    def reload(self, bench):
        applied = 'exeat_policy_reloads_total{result="applied"}'
        before = bench.metrics().get(applied, 0)
        bench.exeat.process.send_signal(signal.SIGHUP)
        lab.until("the policy to be read again", lambda: bench.metrics().get(applied, 0) > before)

    def asked(self, tls, request):
        tls.sendall(request)
        response = http.client.HTTPResponse(tls)
        response.begin()
        response.read()
        return response.status

    def case_c_conn_after_deny(self):
        for served, _, _, request in self.denied(self.reloaded):
            self.assertEqual(self.asked(served, request), 403)

    def case_c_ticket_after_deny(self):
        for _, session, context, request in self.denied(self.reloaded):
            with context.wrap_socket(self.reloaded.connected(), server_hostname=APP, session=session) as again:
                self.assertTrue(again.session_reused)
                self.assertEqual(self.asked(again, request), 403)
