"""The same calls by every AWS SDK, each with its own defaults: all verified, and the record tells how far the signature covers
the body. What may be signed in more than one way is what test_calls.py tries with boto3."""

from pathlib import Path

import matrix
from test_calls import BUCKET, arn, s3_arn
from under import UnderExec
from world import ACCOUNT, client

POLICY = ("--policy", Path(__file__).parent / "sdks.yaml")
FUNCTION = arn("lambda", "function:trial")
MODEL = "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-haiku-20240307-v1:0"
# (call, auth, payload, resource). Uploads over https: SDKs sign the head and send the body with a checksum.
CALLS = [
    ("s3:PutObject", "sigv4", "checksum", s3_arn("sdk/a b+c")),
    ("s3:GetObject", "sigv4", "signed", s3_arn("sdk/a b+c")),
    ("s3:CreateMultipartUpload", "sigv4", "signed", s3_arn("sdk/parts")),
    ("s3:UploadPart", "sigv4", "checksum", s3_arn("sdk/parts")),
    ("s3:CompleteMultipartUpload", "sigv4", "signed", s3_arn("sdk/parts")),
    ("s3:PutObject", "sigv4", "checksum", s3_arn("sdk/stream")),
    ("s3:PutObject", "presigned", "unsigned", s3_arn("sdk/presigned")),
    ("s3:GetObject", "presigned", "unsigned", s3_arn("sdk/presigned")),
    ("dynamodb:PutItem", "sigv4", "signed", arn("dynamodb", "table/orders")),
    ("dynamodb:GetItem", "sigv4", "signed", arn("dynamodb", "table/orders")),
    ("sqs:GetQueueUrl", "sigv4", "signed", arn("sqs", "orders")),
    ("sqs:SendMessage", "sigv4", "signed", arn("sqs", "orders")),
    ("lambda:Invoke", "sigv4", "signed", FUNCTION),
    ("bedrock:InvokeModel", "sigv4", "signed", MODEL),
]


def prepare():
    """What the calls are about."""
    client("s3").create_bucket(Bucket=BUCKET)
    client("sqs").create_queue(QueueName="orders")
    tables = client("dynamodb")
    if "orders" not in tables.list_tables()["TableNames"]:
        tables.create_table(TableName="orders", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}])
    functions, role = client("lambda"), f"arn:aws:iam::{ACCOUNT}:role/trial"
    if not any(function["FunctionArn"] == FUNCTION for function in functions.list_functions()["Functions"]):
        iam = client("iam")
        try:
            iam.create_role(RoleName="trial", AssumeRolePolicyDocument='{"Version": "2012-10-17", "Statement": []}')
        except iam.exceptions.EntityAlreadyExistsException:
            pass
        functions.create_function(FunctionName="trial", Runtime="python3.12", Role=role, Handler="a.b", Code={"ZipFile": b"PK\5\6" + bytes(18)})


class Sdks(UnderExec):
    def calls_by(self, *program, otherwise=lambda call, payload, on: payload):
        """`otherwise`: what this SDK signs of a body where it is not what the others do."""
        wanted = [(call, auth, otherwise(call, payload, on), *on) for call, auth, payload, *on in CALLS]
        prepare()
        done, events = self.run_it(*program, flags=POLICY)
        self.assertEqual(done.returncode, 0, done)
        self.assertIn("went", done.stdout)
        events = [event for event in events if "signature" in event.ours]
        seen = [(event.call, event.ours["auth"], event.ours["payload"], *event.arns) for event in events]
        self.assertEqual(seen, wanted)
        for event, (_, auth, payload, *on) in zip(events, wanted):
            self.verified(event, auth, payload, *on)
            # A body that the signature or a checksum covers was compared with it.
            self.assertEqual(event.ours["payloadOutcome"], "unchecked" if payload == "unsigned" else "matched", event)

    def test_whose_a_key_is_aws_tells_where_a_statement_turns_on_it(self):
        # Its id is of the older kind: it tells no account.
        keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"}
        for account, passes in ((ACCOUNT, True), ("210987654321", False)):
            policy = self.world.folder / "caller.yaml"
            policy.write_text('version: 1\nstatements:\n  - {id: a, effect: allow, action: dynamodb:ListTables, resource: "*", '
                              f'when: {{signer.account: "{account}"}}}}\n')
            done, events = self.run_it(*matrix.PYTHON, "boto3", "allowed", flags=("--policy", policy), **keys)
            self.assertEqual(done.returncode == 0, passes, done)
            own, call = sorted(events, key=lambda event: event.ours.get("origin") != "exeat")
            self.assertEqual((own.call, own.ours["status"], own.ours["signature"]), ("sts:GetCallerIdentity", 200, "verified"), own)
            self.assertEqual(call["userIdentity"]["accountId"], ACCOUNT, call)
            self.assertEqual(call.ours.get("reason"), None if passes else "policy.no_match", call)

    def test_boto3(self):
        self.calls_by(*matrix.PYTHON, "calls", "all")

    def test_javascript(self):
        # What it can read twice it signs whole.
        def otherwise(_, payload, on):
            return "signed" if payload == "checksum" and on != [s3_arn("sdk/stream")] else payload

        self.calls_by(*matrix.NODE, "calls", "all", otherwise=otherwise)

    def test_go(self):
        self.calls_by(*matrix.GO, "calls", "all")

    def test_java(self):
        # Over https it signs no body that goes to S3.
        def otherwise(call, payload, _):
            return "unsigned" if payload == "signed" and call.startswith("s3:") else payload

        self.calls_by("java", "-cp", matrix.CLASSES, "Calls", otherwise=otherwise)
