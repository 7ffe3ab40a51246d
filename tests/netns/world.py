"""Three namespaces in a row: the workload, exeat with a gate in front of it, and all the rest of the world.

    workload 10.77.0.2 --- 10.77.0.1 exeat 198.18.0.1 --- 198.18.0.10 (origins, DNS, 2600::10)
                             also, on exeat's own machine: 169.254.169.254, 169.254.170.2, fd00:ec2::254, 10.9.9.9

exeat's namespace routes between the two, so that it is the gate (nftables) that shuts the workload in, and not a want of
routes. Addresses that must never be dialled have real listeners that exeat could reach: only its refusal saves them.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))
import audit  # noqa: E402
import lab  # noqa: E402

WORKLOAD, DOOR, WORLD, ORIGIN, DNS = "10.77.0.2", "10.77.0.1", "198.18.0.1", "198.18.0.10", "198.18.0.53"
ORIGIN_V6, PORT = "2600::10", 3128
SPECIAL = {"meta.test": "169.254.169.254", "ecs.test": "169.254.170.2", "meta6.test": "fd00:ec2::254", "private.test": "10.9.9.9",
           "loop.test": "127.0.0.1", "mapped.test": "::ffff:169.254.169.254"}
NAMES = {"api.test": [ORIGIN], "v6.test": [ORIGIN_V6], "mixed.test": ["169.254.169.254", ORIGIN], "denied.test": [ORIGIN],
         "port.test": [ORIGIN], **{name: [address] for name, address in SPECIAL.items()}}

# Of the targets' cases (`doors.py`): names that AWS has, and addresses that a policy opens, or does not, on exeat's machine.
AWS = ["*.us-east-1.amazonaws.com", "*.s3.us-east-1.amazonaws.com"]
PRIVATE = ["10.20.3.4", "10.0.0.5"]

POLICY = f"""version: 1
addresses:
  '*.test': [198.18.0.0/15]
  meta.test: [0.0.0.0/0]
  meta6.test: ['::/0']
  mapped.test: [0.0.0.0/0, '::/0']
statements:
  - id: app
    effect: allow
    http: {{host: [api.test, v6.test, mixed.test, {', '.join(SPECIAL)}]}}
"""

# Drops what it does not name, and a packet that is dropped is counted: that it left nobody has to believe.
GATE = f"""table inet gate {{
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname "lo" accept
    iifname "outside" accept
    iifname "inside" ip daddr {DOOR} tcp dport {PORT} accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
  }}
  chain forward {{ type filter hook forward priority 0; policy drop; }}
}}
"""
# On the far side: whatever comes from the workload itself, and not from exeat.
COUNTERS = """table inet seen {
  chain input {
    type filter hook input priority 0; policy accept;
    ip saddr 10.77.0.0/24 counter
    ip6 saddr fd77::/64 counter
  }
}
"""


class World:
    def __init__(self, exeat):
        self._folder = tempfile.TemporaryDirectory(prefix="exeat-netns-")
        self.folder, self.program = Path(self._folder.name), exeat
        self.near, self.middle, self.far = (f"exeat-{part}-{os.getpid()}" for part in ("near", "middle", "far"))
        self.made, self.running = [], []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self):
        for name in (self.near, self.middle, self.far):
            run("ip", "netns", "add", name)
            self.made.append(name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0")
        self._link(self.near, "out", (f"{WORKLOAD}/24", "fd77::2/64"), self.middle, "inside", (f"{DOOR}/24", "fd77::1/64"))
        self._link(self.middle, "outside", (f"{WORLD}/24", "2600::1/64"), self.far, "in",
                   (f"{ORIGIN}/24", f"{DNS}/24", f"{ORIGIN_V6}/64"))
        self._addresses(self.middle, "lo", [f"{ip}/{128 if ':' in ip else 32}" for ip in [*SPECIAL.values(), *PRIVATE]
                                            if not ip.startswith(("127.", "::ffff"))])
        for name, via, via6 in ((self.near, DOOR, "fd77::1"), (self.far, WORLD, "2600::1")):
            run("ip", "-n", name, "route", "add", "default", "via", via)
            run("ip", "-n", name, "-6", "route", "add", "default", "via", via6)
        run("ip", "netns", "exec", self.middle, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        run("ip", "netns", "exec", self.far, "nft", "-f", "-", data=COUNTERS)

        authority = lab.Authority(self.folder, "origin-ca")
        self.roots = authority.certificate
        certificate, key = authority.issue("origin", list(NAMES) + AWS)
        self.resolv = self.folder / "resolv.conf"
        self.resolv.write_text(f"nameserver {DNS}\noptions timeout:1 attempts:1\n")
        pair = f"{certificate}:{key}"
        self.origin = self.inside(self.far, "origin", [f"tls:{ORIGIN}:443:{pair}", f"tls:[{ORIGIN_V6}]:443:{pair}",
                                                       f"tls:{ORIGIN}:8443:{pair}", f"tcp:{ORIGIN}:80"])
        self.dns = self.start_dns()
        self.trap = self.inside(self.middle, "trap", [f"tls:{in_url(ip)}:443:{pair}" for ip in [*SPECIAL.values(), *PRIVATE]
                                                      if not ip.startswith("::ffff")])
        (self.folder / "policy.yaml").write_text(POLICY)
        self.audit = audit.Audit(self.folder / "audit.jsonl")
        self.ca = self.folder / "exeat-ca.pem"
        self.start_exeat()

    def start_dns(self):
        return self.inside(self.far, "dns", [f"dns:{DNS}:{json.dumps(NAMES)}"])

    def inside(self, namespace, name, words):
        """A far side in a namespace, once it is there."""
        program = lab.Program(["ip", "netns", "exec", namespace, sys.executable, HERE / "far.py", *words], self.folder / f"{name}.log")
        self.running.append(program)
        program.wait_for("ready")
        return program

    def start_exeat(self):
        command = [self.program, "run", "--listen", f"{DOOR}:{PORT}", "--policy", self.folder / "policy.yaml", "--audit", self.audit.path,
                   "--upstream-ca", self.roots, "--ca-dir", self.folder / "ca", "--ca-out", self.ca]
        # Names are asked of our own server; the mount ends with the process.
        lookups = f"mount --bind {self.resolv} /etc/resolv.conf && exec \"$@\""
        self.exeat = lab.Program(["ip", "netns", "exec", self.middle, "sh", "-c", lookups, "sh", *command], self.folder / "exeat.log",
                                 {"PATH": os.environ["PATH"]})
        self.running.append(self.exeat)
        self.exeat.wait_for(f"listening on {DOOR}:{PORT}")

    def _link(self, one, one_end, one_has, other, other_end, other_has):
        run("ip", "-n", one, "link", "add", one_end, "type", "veth", "peer", "name", other_end, "netns", other)
        self._addresses(one, one_end, one_has)
        self._addresses(other, other_end, other_has)

    def _addresses(self, namespace, link, addresses):
        for address in addresses:
            run("ip", "-n", namespace, "address", "add", address, "dev", link, *(["nodad"] if ":" in address else []))
        run("ip", "-n", namespace, "link", "set", link, "up")

    def shut(self):
        """The gate closes: from now on the only way out is exeat's door."""
        self.open()
        run("ip", "netns", "exec", self.middle, "nft", "-f", "-", data=GATE)

    def open(self):
        run("ip", "netns", "exec", self.middle, "nft", "flush", "ruleset")

    def arrived(self):
        """Packets of the workload's own that came to the far side."""
        text = run("ip", "netns", "exec", self.far, "nft", "-j", "list", "ruleset")
        rules = [item["rule"] for item in json.loads(text)["nftables"] if "rule" in item]
        return sum(part["counter"]["packets"] for rule in rules for part in rule["expr"] if "counter" in part)

    def met(self):
        """All that the far side and the traps have said so far."""
        return [line for program in self.running if program is not self.exeat for line in program.said().splitlines()]

    def workload(self, *command):
        """Runs in the workload's namespace: (status, output). A dropped packet is silence, so everything has its end."""
        done = subprocess.run(["ip", "netns", "exec", self.near, *map(str, command)], capture_output=True, timeout=60)
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    def fetch(self, url):
        """As a program does that only knows its proxy and the CA: (status of curl, what it says)."""
        return self.workload("curl", "-sS", "--max-time", "20", "--noproxy", "", "--proxy", f"http://{DOOR}:{PORT}", "--cacert", self.ca, url)

    def reach(self, address):
        """What stands at an address, as exeat's own namespace sees it: no gate, no proxy."""
        return run("ip", "netns", "exec", self.middle, "curl", "-sSk", "--max-time", "10", "--noproxy", "*", f"https://{in_url(address)}/")

    def stop(self):
        for program in reversed(self.running):
            program.stop()
        for name in self.made:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        self._folder.cleanup()


WORLD: World  # set by suite.py before the first test


def in_url(address):
    return f"[{address}]" if ":" in address else address


def run(*command, data=None):
    done = subprocess.run(command, input=data and data.encode(), capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode().strip()}")
    return done.stdout.decode()
