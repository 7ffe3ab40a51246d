"""`deploy/observability` with a real Prometheus before a busy exeat: every query of the dashboard and of the rules answers,
and those that must not are named with why. Near the end: what the other tests did shows in the counters too."""

import json
import math
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from botocore import UNSIGNED
from botocore.exceptions import ClientError

import lab
from world import FOREIGN_KEY, KEY, REGION, SINK_BUCKET, Trial, client

PLACE = lab.ROOT / "deploy" / "observability"
# Rules whose left side has no sample here, and why that is right.
NO_DATA = {"ExeatObservesOnly": "no policy of this trial says `default: report`, so nothing was counted under `report`"}
# Rules that this trial's traffic must set off; all others must stay silent.
SET_OFF = {"ExeatBelowTheFloor", "ExeatClientDistrusts", "ExeatBadSignatures", "ExeatForeignKeys", "ExeatManyDenials", "ExeatOriginsFail"}


class Prometheus:
    def __init__(self, folder, target):
        config = folder / "prometheus.yaml"
        config.write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(PLACE / "alerts.yaml")],
            "scrape_configs": [{"job_name": "exeat", "static_configs": [{"targets": [target]}]}]}))
        self.port = lab.free_port()
        self.program = lab.Program(["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
                                    f"--web.listen-address=127.0.0.1:{self.port}"], folder / "prometheus.log")
        lab.wait_for_port(self.port, self.program, 30)

    def ask(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=20) as answer:
            return json.load(answer)["data"]

    def samples(self, query):
        return [float(sample["value"][1]) for sample in self.ask("query", query=query)["result"]]

    def until(self, query, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.samples(query):
                    return
            except urllib.error.HTTPError as error:
                if error.code != 503:  # it is still starting
                    raise
            time.sleep(0.2)
        raise AssertionError(f"{query} never came; prometheus said\n{self.program.said()[-2000:]}")


class Observability(Trial):
    def traffic(self, stop):
        """Calls of every kind, again and again: what passes, and one of each fault that a rule is about."""
        def refused(call, **parameters):
            try:
                call(**parameters)
                self.wrong.append(f"{call} passed")
            except ClientError:
                pass

        s3, dynamodb = client("s3"), client("dynamodb")
        bad = client("s3", aws_access_key_id=KEY, aws_secret_access_key="guessed")
        foreign = client("s3", aws_access_key_id=FOREIGN_KEY, aws_secret_access_key="somebody-elses")
        unsigned = client("s3", config={"signature_version": UNSIGNED})
        old = client("kms", config={"retries": {"total_max_attempts": 1}})  # its origin speaks TLS 1.1
        through = ["-proxy", f"127.0.0.1:{self.world.port}", "-connect"]
        old_hello = ["openssl", "s_client", *through, f"s3.{REGION}.amazonaws.com:443", "-servername", f"s3.{REGION}.amazonaws.com",
                     "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]
        distrust = ["curl", "-sS", "--cacert", str(self.world.folder / "origin-ca.pem"), "-x", self.world.proxy, "https://sts.amazonaws.com/"]
        try:
            s3.create_bucket(Bucket="trial-data")
            while not stop.is_set():
                for _ in range(3):
                    s3.put_object(Bucket="trial-data", Key="observed", Body=b"x" * 100)
                    s3.get_object(Bucket="trial-data", Key="observed")
                    dynamodb.list_tables()
                    # moto ends each connection; this origin keeps them, so that one is used again.
                    s3.put_object(Bucket=SINK_BUCKET, Key="observed", Body=b"x" * 100)
                refused(dynamodb.get_item, TableName="others", Key={"id": {"S": "1"}})
                for made in (bad, foreign, unsigned):
                    refused(made.list_buckets)
                # Often enough that their share is told from the rule's 5 % wherever in its round the trial stands.
                for _ in range(3):
                    refused(old.list_keys)
                for command in (old_hello, distrust):
                    subprocess.run(command, input=b"", capture_output=True, timeout=20)
        except Exception as error:  # shown by the test: a thread's own traceback is not
            self.wrong.append(repr(error))

    def test_the_rules_are_well_formed_and_do_what_their_tests_say(self):
        for command in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts_test.yaml"]):
            done = subprocess.run(["promtool", *command], cwd=PLACE, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        tested = set(re.findall(r"alertname: (\w+)", (PLACE / "alerts_test.yaml").read_text()))
        self.assertEqual(tested, set(re.findall(r"- alert: (\w+)", (PLACE / "alerts.yaml").read_text())), "each rule has a test")

    def test_every_query_of_the_dashboard_and_of_the_rules_answers(self):
        stop, self.wrong = threading.Event(), []
        prometheus = Prometheus(Path(self.world.folder), self.world.admin)
        traffic = threading.Thread(target=self.traffic, args=(stop,))
        traffic.start()
        try:
            prometheus.until('count_over_time(up{job="exeat"}[1m]) > 12 and up == 1')
            for title, query in self.dashboard():
                with self.subTest(title, query=query):
                    samples = prometheus.samples(query)
                    self.assertTrue(samples, "no data")
                    self.assertTrue(any(math.isfinite(sample) for sample in samples), samples)
            # `for` is left out: what counts is whether the condition holds.
            rules = {rule["name"]: rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]}
            self.assertGreater(len(rules), 10)
            for name, rule in rules.items():
                with self.subTest(name):
                    self.assertEqual(rule["health"], "ok", rule)
                    left, right = re.fullmatch(r"(.*) (?:>|==) ([0-9.]+)", rule["query"], re.S).groups()
                    self.assertEqual(bool(prometheus.samples(left)), name not in NO_DATA, f"{left} beside {right}")
                    self.assertEqual(bool(prometheus.samples(rule["query"])), name in SET_OFF, rule["query"])
        finally:
            stop.set()
            traffic.join()
            prometheus.program.stop()
        self.assertEqual(self.wrong, [])

    @staticmethod
    def dashboard():
        panels = json.loads((PLACE / "dashboard.json").read_text())["panels"]
        for panel in panels:
            for target in panel.get("targets", ()):
                query = target["expr"].replace("$__rate_interval", "10s").replace("$job", ".*").replace("$instance", ".*")
                assert "$" not in query, query
                yield panel["title"], query

    def test_the_dashboard_shows_every_metric(self):
        """So that none is counted for nobody."""
        shown = "".join(query for _, query in self.dashboard())
        page = (lab.ROOT / "docs" / "metrics.md").read_text()
        names = re.findall(r"^\| `(\w+)`", page, re.M)
        self.assertGreater(len(names), 20)
        self.assertEqual([name for name in names if name not in shown], [])

    def test_the_dashboard_can_be_provisioned(self):
        board = json.loads((PLACE / "dashboard.json").read_text())
        self.assertNotIn("__inputs", board)  # which only an import by hand fills in
        sources = {json.dumps(panel["datasource"]) for panel in board["panels"] if panel["type"] != "row"}
        self.assertEqual(sources, {'{"type": "prometheus", "uid": "${datasource}"}'})
        ids = [panel["id"] for panel in board["panels"]]
        self.assertEqual(len(ids), len(set(ids)))
