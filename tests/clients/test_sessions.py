"""Sessions with origins, as openssl's server tells them: resumed with the host they were made with, and nowhere else."""

import itertools
import re

import lab
import wire
from world import Trial

HOSTS = ["a.test", "b.test"]
POLICY = """version: 1
statements:
  - {id: plain, effect: allow, http: {host: [a.test, b.test], path: /plain}}
  - {id: strict, effect: allow, http: {host: a.test, path: /strict}, upstream: {tls: ">=1.3"}}
"""
# Tickets, and sessions that the server keeps by their ids.
KINDS = [["-tls1_2"], ["-tls1_2", "-no_ticket"], ["-tls1_3"], ["-tls1_3", "-no_ticket"]]


class OriginSessions(Trial):
    number = itertools.count()

    def begun(self, kind, settings):
        """exeat before an openssl server: what asks that server, and tells whether its session was New or Reused."""
        folder = self.world.folder / f"sessions-{next(self.number)}"
        folder.mkdir()
        authority = lab.Authority(folder, "root")
        certificate, key = authority.issue("leaf", HOSTS)
        port = lab.free_port()
        server = lab.Program(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-www", "-cert", certificate, "-key", key, *kind],
                             folder / "server.log")
        self.addCleanup(server.stop)
        lab.wait_for_port(port, server)
        (folder / "policy.yaml").write_text(POLICY)
        (folder / "exeat.yaml").write_text(settings)
        command = [self.world.program, "run", "--listen", "127.0.0.1:0", "--policy", folder / "policy.yaml", "--config", folder / "exeat.yaml",
                   "--audit", folder / "audit.jsonl", "--upstream-ca", authority.certificate, "--ca-out", folder / "ca.pem",
                   "--connect-to", f"*:443=127.0.0.1:{port}"]
        exeat = lab.Program(command, folder / "exeat.log")
        self.addCleanup(exeat.stop)
        door = exeat.listening()

        def ask(host, path="/plain"):
            request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            answer = wire.through(door, folder / "ca.pem", host, request)
            self.assertEqual(answer.status, 200, answer)
            return re.search(rb"^(New|Reused), TLSv1", answer.body, re.MULTILINE)[1].decode()

        return ask

    def test_a_session_is_resumed_with_its_host_alone(self):
        for kind in KINDS:
            with self.subTest(" ".join(kind)):
                ask = self.begun(kind, "{}\n")
                self.assertEqual([ask("a.test"), ask("a.test")], ["New", "Reused"])
                self.assertEqual([ask("b.test"), ask("b.test"), ask("a.test")], ["New", "Reused", "Reused"])

    def test_a_statement_that_demands_more_takes_no_session_of_those_that_do_not(self):
        ask = self.begun(["-tls1_3"], "{}\n")
        self.assertEqual([ask("a.test"), ask("a.test", "/strict"), ask("a.test", "/strict")], ["New", "New", "Reused"])

    def test_settings_without_resumption_keep_no_session(self):
        for kind in KINDS:
            with self.subTest(" ".join(kind)):
                ask = self.begun(kind, "tls: {origins: {a.test: {resumption: false}}}\n")
                self.assertEqual([ask("a.test"), ask("a.test")], ["New", "New"])
                self.assertEqual([ask("b.test"), ask("b.test")], ["New", "Reused"], "another host has the settings that all have")
