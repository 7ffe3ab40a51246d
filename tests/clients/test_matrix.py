"""Every client of matrix.py under `exec`: what may pass passes, what may not is refused once and says why, and one that has
lost our CA is named. What was measured is printed, and must be what docs/clients.md says (EXEAT_BLESS=1 writes it there)."""

import re
import sys
from pathlib import Path

import lab
import matrix
from under import UnderExec
from world import BLESS

POLICY = ("--policy", Path(__file__).parent / "matrix.yaml")
PAGE = lab.ROOT / "docs" / "clients.md"
HEAD = ("| client | allowed | denied | our sentence stands in | without our CA: recorded as | and told of |\n"
        "| --- | --- | --- | --- | --- | --- |\n")
MEASURED = {}


class Matrix(UnderExec):
    def trial(self, client):
        allowed, denied, lost = self.allowed(client), self.denied(client), self.lost(client)
        MEASURED[client.name] = f"| {' | '.join((client.name, allowed, *denied, *lost))} |"

    def allowed(self, client):
        done, events = self.run_it(*client.allowed, flags=POLICY)
        self.assertEqual(done.returncode, 0, done)
        self.assertTrue(done.stdout, done)
        facts = {(event.ours.get("decision"), event.ours.get("signature")) for event in events if "signature" in event.ours}
        self.assertEqual(facts, {("allow", "verified" if client.signs else "unsigned")}, events)
        return "verified" if client.signs else "passes"

    def denied(self, client):
        """How many attempts it made, and where it shows our sentence."""
        before = list(self.world.moto.arrivals)
        done, events = self.run_it(*client.denied, flags=POLICY)
        refused = [event for event in events if event.ours.get("decision") == "deny"]
        self.assertEqual([event.ours["reason"] for event in refused], ["policy.no_match"], "attempts")
        self.assertEqual(self.world.moto.arrivals, before, "it reached the origin")
        said = [line for line in done.stdout.splitlines() if line.startswith("error:")]
        sentence = re.compile(r"exeat denies .*: no statement allows it \[policy\.no_match\]")
        where = "its error" if sentence.search("\n".join((*said, done.stderr))) else "the body" if sentence.search(done.stdout) else None
        self.assertTrue(where, done)
        return "1 attempt", where

    def lost(self, client):
        """Its CA variables taken away: what the record calls that, and what the summary says is to be set, by name of who."""
        without = (sys.executable, matrix.PROGRAMS / "without.py", ",".join(client.trust), "--", *client.allowed)
        # One try: whoever is not named at once is named never.
        done, events = self.run_it(*without, flags=POLICY, AWS_MAX_ATTEMPTS="1")
        self.assertNotEqual(done.returncode, 0, done)
        self.assertFalse([event for event in events if event.ours.get("decision") == "allow"], events)
        reasons = {event.ours["reason"] for event in events} - {"request.proxy_password"}
        _, summary = re.split(r"^exeat: \d+ calls?\b", done.stderr, maxsplit=1, flags=re.M)
        told = re.search(r"`([^`]+)` does not trust this run's CA; exec sets (.*?): something took that away", summary)
        self.assertTrue(told, done)
        # Its process, or where that is gone already, what it calls itself.
        self.assertRegex(told[1].lower(), client.calls_itself)
        self.assertIn(client.named, told[2])
        return " ".join(f"`{reason}`" for reason in sorted(reasons)) or "nothing: it leaves without a word", f"`{client.named}`"

    def test_z_the_page_tells_what_was_measured(self):
        rows = [MEASURED[client.name] for client in matrix.CLIENTS if client.name in MEASURED]
        self.assertTrue(rows, "no client was tried")
        table = HEAD + "\n".join(rows)
        print(f"\n{table}", file=sys.stderr)
        page = PAGE.read_text()
        _, by_hand = page.split("## Under `run`", 1)
        for client in matrix.CLIENTS:
            named = [row for row in by_hand.splitlines() if re.search(rf"[|,;] {re.escape(client.name)}( \||,|;)", row)]
            self.assertTrue(len(named) == 1 and client.named in named[0], f"{client.name}: {named}")
        before, rest = page.split("<!-- measured -->\n", 1)
        written, after = rest.split("<!-- end -->", 1)
        if len(rows) < len(matrix.CLIENTS):
            self.assertEqual([row for row in rows if row not in written.splitlines()], [], "not what docs/clients.md says")
        elif BLESS:
            PAGE.write_text(f"{before}<!-- measured -->\n{table}\n<!-- end -->{after}")
        else:
            self.assertEqual(written, table + "\n", "not what docs/clients.md says")


def add(client):
    name = re.sub(r"\W+", "_", client.name.lower()).strip("_")
    setattr(Matrix, f"test_{name}", lambda self: self.trial(client))


for each in matrix.CLIENTS:
    add(each)
