"""slowhttptest, which opens hundreds of connections and finishes no request: a good client is served all the while."""

import subprocess
import time
from pathlib import Path

import audit
import lab
from world import ACCOUNT, KEY, REGION, SECRET, Trial, clean_environment

CONNECTIONS = 400
GET_CALLER_IDENTITY = ["--aws-sigv4", f"aws:amz:{REGION}:sts", "--user", f"{KEY}:{SECRET}", "--data", "Action=GetCallerIdentity&Version=2011-06-15",
                       f"https://sts.{REGION}.amazonaws.com/"]


class Slow(Trial):
    def setUp(self):
        lab.need("slowhttptest")
        folder = self.world.folder / "slow"
        folder.mkdir()
        self.audit = audit.Audit(folder / "audit.jsonl")
        command = lab.exeat_command(
            self.world.program, folder, policy=Path(__file__).parent / "policy.yaml", audit=self.audit.path, upstream_ca=self.world.folder / "origin-ca.pem",
            credentials=self.world.folder / "credentials", connect_to=[f"*:443=127.0.0.1:{self.world.moto.port}"])
        self.exeat = lab.Program(command, folder / "exeat.log", clean_environment() | {"EXEAT_LIMITS_HEAD": "3s"})
        self.addCleanup(self.exeat.stop)
        self.port, self.ca = self.exeat.listening(), folder / "exeat-ca.pem"

    def good_client(self):
        done = subprocess.run(["curl", "-sS", "--fail", "--max-time", "20", "--proxy", f"http://127.0.0.1:{self.port}", "--cacert", self.ca, *GET_CALLER_IDENTITY],
                              env=clean_environment(), capture_output=True, text=True, timeout=30)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn(ACCOUNT, done.stdout)

    def test_slow_headers_stop_no_good_client_and_each_of_them_is_on_record(self):
        attack = lab.Program(["slowhttptest", "-H", "-c", CONNECTIONS, "-r", "200", "-i", "1", "-x", "10", "-l", "8", "-p", "5", "-u", f"http://127.0.0.1:{self.port}/"],
                             self.world.folder / "slowhttptest.log")
        self.addCleanup(attack.stop)
        served = 0
        while attack.process.poll() is None:
            self.good_client()
            served += 1
        self.assertGreater(served, 3, "the attack was over before anybody was served")
        self.good_client()
        end = time.monotonic() + 10
        while time.monotonic() < end and len(self.timed_out()) < CONNECTIONS:
            time.sleep(0.1)
        self.assertGreaterEqual(len(self.timed_out()), CONNECTIONS, attack.said()[-500:])

    def timed_out(self):
        _, events = self.audit.since(0)
        return [event for event in events if event.ours.get("reason") == "request.timeout"]
