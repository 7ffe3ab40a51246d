"""Requests of four SDKs, put in another name by the library, at a server that checks signatures: moto with its IAM on. What moto
does not know, chunks of version 4A, AWS's own library checks."""

import base64
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import boto3
from botocore.config import Config

import lab
import matrix
import test_sdks
from world import ACCOUNT, REGION, SECRET, Trial, clean_environment

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", lab.ROOT / "target"))
CAPTURED = lab.ROOT / "tests" / "vectors" / "captured"
EVERYTHING = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'
# Of AWS's suite of version 4A, which says what its public key is.
SUITE = lab.ROOT / "tests" / "vectors" / "sigv4" / "v4a" / "get-vanilla"
# Else 200. The part and the end of a multipart upload are another upload's: moto falls over the first.
ANSWERS = {"03": (404, 500), "04": (404, 500)}


def resigned(key, secret, path):
    """What the library makes of a file of requests: a line each."""
    return subprocess.run([TARGET / "debug/examples/resign", key, secret, path], capture_output=True, text=True, check=True).stdout


class Resign4a(Trial):
    def chains(self, uploads, public):
        return subprocess.run(["java", "-cp", matrix.CLASSES, "Chains", public["X"], public["Y"]], input=uploads, capture_output=True, text=True)

    def test_uploads_in_chunks_hold_in_another_name_by_awss_own_library(self):
        key = json.loads((SUITE / "context.json").read_text())["credentials"]
        public = json.loads((SUITE / "public-key.json").read_text())
        uploads = resigned(key["access_key_id"], key["secret_access_key"], SUITE.parents[1] / "crt-v4a-chunks.json")
        done = self.chains(uploads, public)
        # The head, each chunk with the last, the trailer.
        self.assertEqual((done.returncode, done.stdout.split()), (0, ["two-chunks", "4", "empty", "2", "trailer", "4"]), done)
        others = resigned(key["access_key_id"], "another-secret", SUITE.parents[1] / "crt-v4a-chunks.json")
        self.assertNotEqual(self.chains(others, public).returncode, 0)


class Resign(Trial):
    """Its own moto: with IAM on, nothing else could be tried at the same one."""

    @classmethod
    def setUpClass(cls):
        # What is prepared is not authorised: there is nobody yet.
        calls = 8
        cls.port = lab.free_port()
        environment = clean_environment() | {"INITIAL_NO_AUTH_ACTION_COUNT": str(calls)}
        command = [sys.executable, "-c", "from moto.core.config import default_user_config as c; c['lambda']['use_docker'] = False; "
                   f"from moto.server import main; main(['-p', '{cls.port}'])"]
        cls.moto = lab.Program(command, TARGET / f"moto-{os.getpid()}.log", environment)
        lab.wait_for_port(cls.port, cls.moto, 30)
        make = lambda service: boto3.client(service, endpoint_url=f"http://127.0.0.1:{cls.port}", region_name=REGION,
                                            aws_access_key_id="nobody", aws_secret_access_key=SECRET, config=Config(proxies={}))
        iam, role = make("iam"), f"arn:aws:iam::{ACCOUNT}:role/trial"
        iam.create_user(UserName="trial")
        iam.put_user_policy(UserName="trial", PolicyName="all", PolicyDocument=EVERYTHING)
        key = iam.create_access_key(UserName="trial")["AccessKey"]
        cls.key = key["AccessKeyId"], key["SecretAccessKey"]
        iam.create_role(RoleName="trial", AssumeRolePolicyDocument='{"Version": "2012-10-17", "Statement": []}')
        make("s3").create_bucket(Bucket=test_sdks.BUCKET)
        make("sqs").create_queue(QueueName="orders")
        make("dynamodb").create_table(TableName="orders", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                                      AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}])
        make("lambda").create_function(FunctionName="trial", Runtime="python3.12", Role=role, Handler="a.b",
                                       Code={"ZipFile": b"PK\5\6" + bytes(18)})

    @classmethod
    def tearDownClass(cls):
        cls.moto.stop()
        cls.moto.log.unlink()

    def resigned(self, client, secret):
        """(name, bytes) of each request."""
        said = resigned(self.key[0], secret, CAPTURED / f"{client}.jsonl")
        return [tuple(base64.b64decode(word) for word in line.split()) for line in said.splitlines()]

    def send(self, request):
        """Status and body of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), 20) as moto:
            moto.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            answer = b""
            while piece := moto.recv(65536):
                answer += piece
        return int(answer.split(b" ", 2)[1]), answer

    def trial(self, client):
        requests = self.resigned(client, self.key[1])
        self.assertEqual(len(requests), len(test_sdks.CALLS))
        for name, request in requests:
            number = name.decode().rsplit("-", 1)[1]
            status, answer = self.send(request)
            self.assertIn(status, ANSWERS.get(number, (200,)), (name, request, answer))
        # The same under a secret that is not the key's: the server does look.
        for name, request in self.resigned(client, "another-secret"):
            status, answer = self.send(request)
            self.assertIn(status, (400, 403), (name, answer))
            self.assertRegex(answer, rb"SignatureDoesNotMatch|InvalidSignature", name)

    def test_boto3(self):
        self.trial("boto3")

    def test_javascript(self):
        self.trial("javascript")

    def test_go(self):
        self.trial("go")

    def test_java(self):
        self.trial("java")
