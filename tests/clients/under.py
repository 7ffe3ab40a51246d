"""Programs under `exeat exec`, told nothing but their environment."""

import subprocess

import audit
import lab
from world import KEY, REGION, SECRET, Trial, clean_environment

NODE_MODULES = lab.ROOT / "target" / "clients-node" / "node_modules"


class UnderExec(Trial):
    def run_it(self, *child, flags=(), **variables):
        """Runs the child under `exec`: (finished process, its events)."""
        self.file = audit.Audit(self.world.folder / f"exec-{self.id()}.jsonl")
        mark = self.file.mark()
        command = [self.world.program, "exec", "--upstream-ca", self.world.folder / "origin-ca.pem", "--audit", self.file.path,
                   *flags, "--connect-to", f"*:443=127.0.0.1:{self.world.moto.port}", "--", *child]
        environment = clean_environment() | {
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION,
            "HOME": str(self.world.folder), "NODE_PATH": str(NODE_MODULES)} | variables
        done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True, timeout=120)
        return done, self.file.since(mark)[1]

    def calls(self, events):
        return [(event.call, event.ours["signature"]) for event in events if event.ours.get("decision") == "allow"]
