"""What the namespaces promise. `suite.py EXEAT [unittest's -k PATTERN]`; `world.py` has the picture."""

import sys
import unittest
from collections import Counter

import doors
import world
from world import DNS, ORIGIN, ORIGIN_V6, SPECIAL, World, in_url

WORLD: World

# Ways past the proxy; each works while the gate is open, which shows that it is the gate that shuts them.
DIRECT = {
    "an origin": f"import socket; socket.create_connection(('{ORIGIN}', 443), 2)",
    "another port of it": f"import socket; socket.create_connection(('{ORIGIN}', 8443), 2)",
    "plain HTTP": f"import socket; socket.create_connection(('{ORIGIN}', 80), 2)",
    "IPv6": f"import socket; socket.create_connection(('{ORIGIN_V6}', 443), 2)",
    "metadata": "import socket; socket.create_connection(('169.254.169.254', 443), 2)",
    "metadata over IPv6": "import socket; socket.create_connection(('fd00:ec2::254', 443), 2)",
    "DNS": "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); "
           f"s.sendto(b'..\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\4leak\\4test\\0\\0\\1\\0\\1', ('{DNS}', 53)); s.recv(512)",
}


class Gate(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        WORLD.shut()

    def went(self, name):
        status, said = WORLD.workload(sys.executable, "-c", DIRECT[name])
        return status == 0, said

    def refused(self, url, reason):
        """One record with the reason, and nothing new on the far side but what is handed back."""
        mark, before = WORLD.audit.mark(), Counter(WORLD.met())
        status, said = WORLD.fetch(url)
        self.assertNotIn("here", said)
        intents, events = WORLD.audit.settled(mark)
        self.assertEqual([event.ours.get("reason") for event in events], [reason], (status, said, events))
        self.assertEqual(intents, [])
        return list(Counter(WORLD.met()) - before), events[0]

    def test_every_way_past_the_proxy_is_open_before_the_gate_and_dead_behind_it(self):
        WORLD.open()
        for name in DIRECT:
            with self.subTest(name, gate="open"):
                went, said = self.went(name)
                self.assertTrue(went, said)
        self.assertGreater(WORLD.arrived(), 0)
        WORLD.shut()
        arrived, met = WORLD.arrived(), WORLD.met()
        for name in DIRECT:
            with self.subTest(name, gate="shut"):
                self.assertFalse(self.went(name)[0])
        self.assertEqual((WORLD.arrived(), WORLD.met()), (arrived, met))

    def test_an_allowed_call_goes_through_exeat_and_only_there(self):
        arrived = WORLD.arrived()
        for host in ("api.test", "v6.test"):
            with self.subTest(host):
                mark = WORLD.audit.mark()
                self.assertEqual(WORLD.fetch(f"https://{host}/"), (0, "here"))
                intents, events = WORLD.audit.settled(mark)
                self.assertEqual((len(intents), [event.ours["decision"] for event in events]), (1, ["allow"]))
        self.assertEqual(WORLD.arrived(), arrived)

    def test_a_denied_name_is_not_even_looked_up(self):
        met, _ = self.refused("https://denied.test/", "policy.no_match")
        self.assertEqual(met, [])
        met, _ = self.refused("https://no-such-name-of-a-secret.evil.test/", "policy.no_match")
        self.assertEqual(met, [])

    def test_another_port_and_plaintext_are_refused_at_the_door(self):
        self.assertEqual(self.refused("https://port.test:8443/", "target.port")[0], [])
        self.assertEqual(self.refused("http://api.test/", "tls.plaintext")[0], [])

    def test_special_addresses_are_not_dialled_though_something_listens_there(self):
        for name, address in SPECIAL.items():
            with self.subTest(name):
                met, event = self.refused(f"https://{name}/", "target.address")
                self.assertEqual({line.split()[0] for line in met}, {"dns"}, met)
                self.assertIn(address, event["errorMessage"])
                self.assertEqual(self.refused(f"https://{in_url(address)}/", "target.literal")[0], [])

    def test_the_traps_are_real(self):
        """Without exeat in between, its own namespace reaches them: it is its refusal that saves them."""
        for name, address in SPECIAL.items():
            if "ffff" not in address:
                with self.subTest(name):
                    self.assertEqual(WORLD.reach(address), "here")

    def test_of_mixed_answers_the_one_that_may_be_dialled_is(self):
        before = WORLD.trap.said()
        self.assertEqual(WORLD.fetch("https://mixed.test/"), (0, "here"))
        self.assertEqual(WORLD.trap.said(), before)

    def test_a_name_server_that_is_gone_is_an_answer_and_not_a_hang(self):
        WORLD.dns.stop()
        try:
            self.refused("https://api.test/", "upstream.resolve")
        finally:
            WORLD.dns = WORLD.start_dns()
        self.assertEqual(WORLD.fetch("https://api.test/"), (0, "here"))

    def test_nothing_leaves_once_exeat_is_dead(self):
        WORLD.exeat.process.kill()
        WORLD.exeat.process.wait()
        arrived, met = WORLD.arrived(), WORLD.met()
        try:
            status, said = WORLD.fetch("https://api.test/")
            self.assertNotEqual(status, 0, said)
            for name in DIRECT:
                with self.subTest(name):
                    self.assertFalse(self.went(name)[0])
            self.assertEqual((WORLD.arrived(), WORLD.met()), (arrived, met))
        finally:
            WORLD.start_exeat()
        self.assertEqual(WORLD.fetch("https://api.test/"), (0, "here"))


def main():
    global WORLD
    exeat, patterns = sys.argv[1], sys.argv[2:]
    try:
        WORLD = world.WORLD = World(exeat)
    except RuntimeError as error:
        sys.exit(f"netns: this machine makes no such namespaces, so nothing was tried: {error}")
    try:
        loader = unittest.TestLoader()
        loader.testNamePatterns = [f"*{pattern}*" for pattern in patterns] or None
        tests = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (Gate, doors.Doors))
        result = unittest.TextTestRunner(verbosity=2).run(tests)
        if not result.wasSuccessful():
            print(f"--- exeat's last words\n{WORLD.exeat.said()[-3000:]}", file=sys.stderr)
        if not result.testsRun:
            sys.exit("no test ran")
    finally:
        WORLD.stop()
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    main()
