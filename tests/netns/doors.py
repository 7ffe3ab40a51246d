"""Every case of `tests/vectors/targets` through every door there is, over the answers that the case gives: what happens is what
`exeat explain target` says, for the same reason, in one record; and it leaves nothing behind.

Answers come from a hosts file of exeat's own (`/etc/hosts` counts), written anew for each case.
"""

import json
import subprocess
import sys
import unittest
from collections import Counter

import world
from world import HERE, audit, lab

KEY, SECRET, REGION = lab.key_id_of("123456789012"), "doors-secret-doors-secret-doors-secret-42", "us-east-1"
CASES = json.loads((lab.ROOT / "tests" / "vectors" / "targets" / "targets.json").read_text())["cases"]
HOSTS = [f"{service}.{REGION}.amazonaws.com" for service in ("s3", "sts", "dynamodb", "kms", "sqs")]
S3 = HOSTS[0]
CLEAN = "198.18.0.10"
# No request line can hold it, and no command line: it is not even a target.
NO_LINE = {"mal-45": {"decision": "deny", "reason": "request.malformed", "lookups": False, "dial": []}}


def policy(name, tunnels):
    """The policies of the vectors' README; with `tunnels` their hosts are tunnelled."""
    sqs = {"vpc": ", 10.20.0.0/16", "vpc-wide": ", 0.0.0.0/0, '::/0'"}.get(name, "")
    hosts = ", ".join([HOSTS[0], f"'*.{S3}'", *HOSTS[1:]])
    when = "" if name == "aws-services" else f", when: {{host: [{hosts}]}}"
    ranges = "".join(f"  '{host}': [198.18.0.0/15]\n" for host in (*HOSTS[:4], f"*.{S3}"))
    shut = "".join(f"  - {{id: t{at}, effect: allow, tunnel: {{host: {host}}}}}\n" for at, host in enumerate(HOSTS)) if tunnels else ""
    return (f"version: 1\naddresses:\n{ranges}  '{HOSTS[4]}': [198.18.0.0/15{sqs}]\nstatements:\n"
            f"  - {{id: aws, effect: allow, action: '*', resource: '*'{when}}}\n{shut}")


class Door(lab.Holding):
    """exeat under one policy, in the namespace that leads out."""

    def __init__(self, within, name, tunnels):
        self.world, self.folder = within, within.folder / f"{name}-{'tunnels' if tunnels else 'intercepts'}"
        self.folder.mkdir()
        self.policy, self.hosts, self.ca = (self.folder / file for file in ("policy.yaml", "hosts", "ca.pem"))
        self.policy.write_text(policy(name, tunnels))
        self.hosts.write_text("")
        self.audit = audit.Audit(self.folder / "audit.jsonl", self.clients)
        command = [within.program, "run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--workers", "1", "--policy", self.policy,
                   "--audit", self.audit.path, "--upstream-ca", within.roots, "--ca-out", self.ca,
                   "--credentials", lab.credentials_file(self.folder / "credentials", default=(KEY, SECRET))]
        files = f"mount --bind {within.resolv} /etc/resolv.conf && mount --bind {self.hosts} /etc/hosts && exec \"$@\""
        self.exeat = lab.Program(["ip", "netns", "exec", within.middle, "sh", "-c", files, "sh", *command], self.folder / "exeat.log",
                                 {"PATH": "/usr/bin:/bin"})
        self.port = self.exeat.listening()
        self.admin = int(self.exeat.wait_for(r"admin door on 127\.0\.0\.1:(\d+)")[1])
        # At the end of a tunnel is the origin itself; and not all of these hosts are tunnelled.
        self.roots = str(self.folder / "roots.pem")
        (self.folder / "roots.pem").write_text(self.ca.read_text() + within.roots.read_text())

    def answers(self, host, addresses):
        self.hosts.write_text("".join(f"{address} {host}\n" for address in addresses))

    def explains(self, target, mode, case):
        """What `explain target` says of it, over the same answers."""
        command = [self.world.program, "explain", "target", "--policy", self.policy, "--mode", mode, "-o", "json",
                   "--answers", ",".join(case.get("answers", [])), *([f"--sni={case['sni']}"] if "sni" in case else []), "--", target]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=20)
        return json.loads(done.stdout)

    def metrics(self):
        return self.world.ask(do="metrics", port=self.admin)


class Doors(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.world = within = world.WORLD
        asking = ["ip", "netns", "exec", within.middle, sys.executable, HERE / "ask.py", KEY, SECRET, REGION]
        client = subprocess.Popen(asking, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        cls.addClassCleanup(client.wait)
        cls.addClassCleanup(client.stdin.close)

        def ask(**question):
            client.stdin.write(json.dumps(question) + "\n")
            client.stdin.flush()
            return json.loads(client.stdout.readline())

        within.ask = ask
        policies = {case["policy"] for case in CASES}
        cls.doors = {}
        for way in [(name, tunnels) for name in policies for tunnels in (False, True)]:
            cls.doors[way] = Door(within, *way)
            cls.addClassCleanup(cls.doors[way].exeat.stop)

    def plays(self, door, says, play, named, met_may=()):
        """One attempt: its outcome is what `says` has, in one record and one count, and nothing is left of it."""
        held, before, mark, met = door.settled(), door.metrics(), door.audit.mark(), Counter(self.world.met())
        statuses = play()
        _, events = door.audit.settled(mark)
        self.assertEqual([event.ours.get("reason") for event in events], [says["reason"]], (statuses, events))
        event, = events
        if says["decision"] == "allow":
            self.assertEqual(event.ours["upstream"]["address"], says["dial"][0])
        else:
            self.assertNotIn("upstream", event.ours)
            counted = f'exeat_refusals_total{{reason="{says["reason"]}"}}'
            after = door.metrics()
            changed = {name for name in after if name.startswith("exeat_refusals_total") and after[name] != before.get(name, 0)}
            self.assertEqual((changed, after[counted] - before.get(counted, 0)), ({counted}, 1))
        lookups = door.metrics()["exeat_lookups_total"] - before["exeat_lookups_total"]
        self.assertEqual(lookups, int(says["lookups"]), "looked up as often as it says")
        # Only what may be dialled was met, and no name server was asked: all answers stand in the hosts file.
        new = Counter(self.world.met()) - met
        self.assertEqual({line for line in new if not any(f" {place}" in line for place in met_may)}, set())
        if named:
            self.assertEqual(event.ours.get("target"), named)
        door.gives_back(held)
        self.assertNotIn("panicked", door.exeat.said())
        return statuses

    def clean(self, door):
        """A request that nothing is wrong with."""
        door.answers(S3, [CLEAN])
        self.assertEqual(self.world.ask(do="connect", port=door.port, target=f"{S3}:443", sni=S3, roots=door.roots), [200, 200])

    def connect(self, door, case):
        host = case["target"].rpartition(":")[0].lower().removesuffix(".")
        says = NO_LINE.get(case["id"]) or door.explains(case["target"], "connect", case)
        # Names that anyone can rent are no AWS service: nothing is signed for them.
        signs = case["cls"] != "aws-suffix" or says["decision"] == "allow"
        named = case["target"].rpartition("@")[2] if case["expect"] == "malformed" else None
        sni = case.get("sni", host) or None
        door.answers(host, case.get("answers", []))
        met = [f"{address}:443" for address in says["dial"]]
        asked = {"do": "connect", "port": door.port, "target": case["target"], "sni": sni, "roots": door.roots, "signs": signs}
        statuses = self.plays(door, says, lambda: self.world.ask(**asked), named, met)
        if says["decision"] == "allow":
            self.assertEqual(statuses, [200, 200])
        else:
            self.assertIn(statuses[-1], (0, 400, 403), says)
            self.assertNotEqual(statuses, [200, 200])
        self.clean(door)

    def test_connect_intercepted(self):
        for case in CASES:
            if case["mode"] == "connect":
                with self.subTest(case["id"]):
                    self.connect(self.doors[case["policy"], False], case)

    def test_connect_tunnelled(self):
        for case in CASES:
            if case["mode"] == "connect":
                with self.subTest(case["id"]):
                    self.connect(self.doors[case["policy"], True], case)

    def test_absolute_form_is_refused_for_what_it_is_whatever_it_names(self):
        for case in CASES:
            if case["mode"] not in ("connect", "absolute") or case["id"] in NO_LINE:
                continue
            for scheme in ("http", "https"):
                bare = case["target"].removeprefix("http://").removesuffix("/")
                target = f"{scheme}://{bare}/"
                with self.subTest(case["id"], target=target):
                    door = self.doors[case["policy"], False]
                    says = door.explains(target, "absolute", {})
                    self.assertEqual(says["reason"], "tls.plaintext")
                    self.assertEqual(self.plays(door, says, lambda: self.world.ask(do="plain", port=door.port, target=target), None), [403])
                    self.clean(door)

    def test_what_has_no_door_yet_is_known(self):
        """`explain` answers for it, and no door can be asked."""
        self.assertEqual({case["mode"] for case in CASES} - {"connect", "absolute"}, {"transparent"})
