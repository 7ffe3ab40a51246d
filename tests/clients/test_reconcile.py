"""`exeat reconcile` beside what moto saw: three calls that went straight to it are found, and none is invented."""

import json
import random
import socket
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

import trail
import wire
from world import FOREIGN_KEY, KEY, REGION, SECRET, Trial, client

ROUND = 8  # of each kind of call


class Reconcile(Trial):
    def busy(self):
        """Calls of several services and protocols, some refused, from several threads at once."""
        s3, dynamodb, sqs, sns = (client(name) for name in ("s3", "dynamodb", "sqs", "sns"))
        s3.create_bucket(Bucket="trial-data")

        def denied(call, **parameters):
            with self.assertRaises(ClientError):
                call(**parameters)

        calls = [call for n in range(ROUND) for call in (
            lambda n=n: s3.put_object(Bucket="trial-data", Key=f"reconcile/{n}", Body=b"x" * n),
            lambda: s3.list_objects_v2(Bucket="trial-data", Prefix="reconcile/"),
            lambda: dynamodb.list_tables(),
            lambda: sqs.create_queue(QueueName="orders"),
            lambda: sns.create_topic(Name="orders"),
            lambda: denied(s3.get_object, Bucket="other-data", Key="a"),
            lambda: denied(dynamodb.get_item, TableName="others", Key={"id": {"S": "1"}}),
        )]
        random.shuffle(calls)
        with ThreadPoolExecutor(4) as threads:
            for done in [threads.submit(call) for call in calls]:
                done.result()

    def straight(self, service, target, host, body=b"{}"):
        """The same key, and no proxy."""
        request = AWSRequest("POST", f"https://{host}/", data=body, headers={"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.0"})
        SigV4Auth(Credentials(KEY, SECRET), service, REGION).add_auth(request)
        context = ssl.create_default_context(cafile=self.world.folder / "origin-ca.pem")
        with socket.create_connection(("127.0.0.1", self.world.moto.port), 20) as stream, context.wrap_socket(stream, server_hostname=host) as tls:
            tls.sendall(wire.http1(request.prepare()))
            tls.recv(65536)

    def reconcile(self, records):
        export = trail.deliver(self.world.folder / "trail.json.gz", records)
        done = subprocess.run([self.world.program, "reconcile", "--audit", self.world.audit.path, "--cloudtrail", export, "-o", "json"],
                              capture_output=True, text=True, timeout=60)
        return done.returncode, json.loads(done.stdout or "null"), done.stderr

    def test_finds_three_planted_bypasses_and_invents_none(self):
        mark = len(self.world.moto.calls)
        self.busy()
        honest = [call.record() for call in self.world.moto.calls[mark:]]
        self.assertGreaterEqual(len(honest), 5 * ROUND)
        self.assertNotIn(None, [record["eventName"] for record in honest])
        noise = [honest[0] | {"eventID": "by-a-service", "requestID": "S", "userIdentity": {"type": "AssumedRole", "accessKeyId": KEY, "invokedBy": "cloudformation.amazonaws.com"}},
                 honest[0] | {"eventID": "by-a-stranger", "requestID": "N", "userIdentity": {"type": "IAMUser", "accessKeyId": FOREIGN_KEY}}]
        code, answer, said = self.reconcile(honest + noise)
        self.assertEqual((code, answer["bypasses"]), (0, []), said)
        self.assertEqual(answer["matched"]["request_id"] + answer["matched"]["time"], len(honest))
        self.assertEqual((answer["left_out"]["aws_service"], answer["left_out"]["key_never_held"]), (1, 1))

        mark = len(self.world.moto.calls)
        # One that passes here too, one that is refused here, one that was never asked for here.
        self.straight("dynamodb", "DynamoDB_20120810.ListTables", f"dynamodb.{REGION}.amazonaws.com")
        self.straight("dynamodb", "DynamoDB_20120810.GetItem", f"dynamodb.{REGION}.amazonaws.com", b'{"TableName": "others", "Key": {"id": {"S": "1"}}}')
        self.straight("kms", "TrentService.ListKeys", f"kms.{REGION}.amazonaws.com")
        planted = [call.record() for call in self.world.moto.calls[mark:]]
        self.assertEqual([record["eventName"] for record in planted], ["ListTables", "GetItem", "ListKeys"])
        mixed = honest + noise + planted
        random.shuffle(mixed)
        code, answer, said = self.reconcile(mixed)
        self.assertEqual(code, 1, said)
        self.assertEqual(sorted(bypass["event_id"] for bypass in answer["bypasses"]), sorted(record["eventID"] for record in planted))
        refused = [bypass["call"] for bypass in answer["bypasses"] if bypass["refused_flow"]]
        self.assertEqual(refused, ["dynamodb:GetItem"])
        self.assertEqual(answer["audit"]["lines"]["unreadable"], 0)
