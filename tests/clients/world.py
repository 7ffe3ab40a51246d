"""The world of one run: origins, exeat between, clients that only know a proxy and a CA. Started once by `suite.py`."""

import os
import re
import tempfile
import unittest
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config

import audit
import lab
import origin

REGION, ACCOUNT, FOREIGN_ACCOUNT = "us-east-1", "123456789012", "210987654321"
KEY, SECRET = lab.key_id_of(ACCOUNT, "TRIAL"), "trial-secret-trial-secret-trial-secret-42"
FOREIGN_KEY = lab.key_id_of(FOREIGN_ACCOUNT, "OTHER")
ANSWERS_TLS = {"TLSv1.2", "TLSv1.3"}
OLD_HOST, SINK_BUCKET = "kms.us-east-1.amazonaws.com", "trial-sink"

BLESS = bool(os.environ.get("EXEAT_BLESS"))  # before the environment is cleaned
# Whatever the machine that runs the trial has set must not lead a client past exeat.
FOREIGN_VARIABLES = re.compile(r"^(AWS_.*|.*_proxy|(CURL|REQUESTS)_CA_BUNDLE|SSL_CERT_(FILE|DIR)|EXEAT_.*)$", re.I)


class World:
    def __init__(self, exeat):
        self._folder = tempfile.TemporaryDirectory(prefix="exeat-clients-")
        self.folder = Path(self._folder.name)
        self.program, self.running = exeat, []
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self):
        authority = lab.Authority(self.folder, "origin-ca")
        certificate, key = authority.issue("origin", origin.AWS_HOSTS)
        self.moto, self.sink, self.sign_in = (kind(certificate, key) for kind in (origin.Moto, origin.Sink, origin.SignIn))
        self.running += [self.moto, self.sink, self.sign_in]
        old, old_port = origin.old_server(self.folder, certificate, key)
        self.running.append(old)
        if not origin.old_server_speaks_tls_1_1(old_port):
            raise RuntimeError("this machine's openssl does not speak TLS 1.1: the floor can't be tried")

        self.audit = audit.Audit(self.folder / "audit.jsonl")
        self.ca = self.folder / "exeat-ca.pem"
        self.exeat = lab.Program(lab.exeat_command(
            self.program, self.folder, policy=Path(__file__).parent / "policy.yaml", audit=self.audit.path, upstream_ca=authority.certificate,
            credentials=lab.credentials_file(self.folder / "credentials", trial=(KEY, SECRET)),
            connect_to=[f"{SINK_BUCKET}.s3.amazonaws.com:443=127.0.0.1:{self.sink.port}", f"{OLD_HOST}:443=127.0.0.1:{old_port}",
                        f"*:443=127.0.0.1:{self.moto.port}"]) + ["--admin", "127.0.0.1:0"], self.folder / "exeat.log", clean_environment())
        self.running.append(self.exeat)
        self.port = self.exeat.listening()
        self.admin = self.exeat.wait_for(r"admin door on (\S+)")[1]
        self.proxy = f"http://127.0.0.1:{self.port}"

    def stop(self):
        for part in reversed(self.running):
            part.stop()
        self._folder.cleanup()

    def environment(self):
        """What a program under exeat has in its environment; also for boto3 in this process."""
        return clean_environment() | {
            "HTTPS_PROXY": self.proxy, "HTTP_PROXY": self.proxy, "https_proxy": self.proxy, "http_proxy": self.proxy,
            "AWS_CA_BUNDLE": str(self.ca), "CURL_CA_BUNDLE": str(self.ca), "REQUESTS_CA_BUNDLE": str(self.ca),
            "SSL_CERT_FILE": str(self.ca),
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


def clean_environment():
    return {name: value for name, value in os.environ.items() if not FOREIGN_VARIABLES.match(name)}


WORLD: World  # set by suite.py before the first test


def start(exeat):
    global WORLD
    WORLD = World(exeat)
    for name in set(os.environ) - set(WORLD.environment()):
        del os.environ[name]
    os.environ.update(WORLD.environment())
    return WORLD


class Attempts(list):
    """The requests that a client put on the wire."""

    def __call__(self, request, **_):
        self.append(request)


def client(service, *, attempts=None, **options):
    """A boto3 client as a program makes it. Retries stay as boto3 has them: a refusal must not be retried."""
    made = boto3.Session().client(service, config=Config(**options.pop("config", {})), **options)
    if attempts is not None:
        made.meta.events.register("before-send", attempts)
    return made


class Trial(unittest.TestCase):
    maxDiff = None

    @property
    def world(self):
        return WORLD

    @contextmanager
    def one_call(self, call, *, auth="sigv4", payload="signed", arn=None):
        """Within it the client makes one call: one intent and one event of it, with every fact that exeat promises."""
        mark, arrived = WORLD.audit.mark(), len(WORLD.moto.arrivals)
        yield
        intents, events = WORLD.audit.settled(mark)
        self.assertEqual([event.call for event in events], [call])
        self.assertEqual(len(intents), 1, intents)
        event, = events
        self.assertEqual((intents[0]["flow"], intents[0]["operation"]), (event.flow, call))
        self.verified(event, auth, payload, arn)
        self.assertLessEqual(len(WORLD.moto.arrivals) - arrived, 1)

    def verified(self, event, auth="sigv4", payload="signed", arn=None):
        """An allowed call's event: whose, proven how, over which TLS on both legs, on what."""
        ours = event.ours
        facts = {name: ours.get(name) for name in ("decision", "auth", "signature", "payload")}
        self.assertEqual(facts, {"decision": "allow", "auth": auth, "signature": "verified", "payload": payload}, event)
        self.assertEqual(event.key_id, KEY)
        self.assertEqual(event["userIdentity"]["accountId"], ACCOUNT)
        self.assertIn(event.client_tls, ANSWERS_TLS)
        self.assertIn(event.upstream_tls, ANSWERS_TLS)
        self.assertTrue(ours.get("statement"), event)
        if arn:
            self.assertIn(arn, event.arns, event)

    @contextmanager
    def refused(self, *reasons, key_id=KEY):
        """Within it one request is refused with one of the reasons: one event, no intent, and nothing went upstream."""
        mark, arrived = WORLD.audit.mark(), list(WORLD.moto.arrivals)
        refusal = Refusal()
        yield refusal
        intents, events = WORLD.audit.settled(mark)
        self.assertEqual(intents, [], "a refusal has no intent")
        self.assertEqual(len(events), 1, events)
        refusal.event, = events
        self.assertIn(refusal.event.ours.get("reason"), reasons, refusal.event)
        # `none`: refused before there was a request to decide on.
        self.assertIn(refusal.event.ours["decision"], ("deny", "none"))
        self.assertEqual(WORLD.moto.arrivals, arrived, "it reached the origin")
        if key_id:
            self.assertEqual(refusal.event.key_id, key_id)

    def says_so(self, error, refusal, attempts):
        """The SDK's own exception carries our sentence, after one attempt."""
        reason = refusal.event.ours["reason"]
        self.assertEqual(refusal.event.ours["decision"], "deny")
        response = error.response
        self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], 403, response)
        self.assertIn("AccessDenied", response["Error"]["Code"])
        self.assertIn(f"[{reason}]", response["Error"]["Message"])
        self.verdict(response["ResponseMetadata"]["HTTPHeaders"].get("exeat-verdict", ""), refusal)
        self.assertEqual(len(attempts), 1, "the SDK tried again")

    def verdict(self, header, refusal):
        self.assertEqual(header, f"deny; reason={refusal.event.ours['reason']}; flow={refusal.event.flow}")


class Refusal:
    event: audit.Event
