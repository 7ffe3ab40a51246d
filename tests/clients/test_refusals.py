"""The nearest call that must not pass, beside each that does: refused with its reason, in the SDK's own words, once."""

import subprocess

import requests
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

import lab
import wire
from world import ACCOUNT, FOREIGN_ACCOUNT, FOREIGN_KEY, KEY, REGION, SECRET, Attempts, Trial, client

BUCKET = "trial-data"
DYNAMODB = f"dynamodb.{REGION}.amazonaws.com"


class ByTheSdk(Trial):
    """boto3 raises what it raises when AWS itself says no, with our sentence in it."""

    def refuses(self, service, call, *reasons, key_id=KEY, sdk=None):
        attempts = Attempts()
        made = client(service, attempts=attempts, **(sdk or {}))
        with self.refused(*reasons, key_id=key_id) as refusal, self.assertRaises(ClientError) as raised:
            call(made)
        self.says_so(raised.exception, refusal, attempts)
        return refusal

    def test_a_bucket_that_no_statement_names(self):
        self.refuses("s3", lambda s3: s3.get_object(Bucket="other-data", Key="a"), "policy.no_match")
        self.refuses("s3", lambda s3: s3.put_object(Bucket="other-data", Key="a", Body=b"leak"), "policy.no_match")

    def test_a_key_that_a_statement_denies(self):
        refusal = self.refuses("s3", lambda s3: s3.get_object(Bucket=BUCKET, Key="secret/a"), "policy.denied")
        self.assertEqual(refusal.event.ours["statement"], "no-secrets")

    def test_a_copy_out_of_a_bucket_that_no_statement_names(self):
        self.refuses("s3", lambda s3: s3.copy_object(Bucket=BUCKET, Key="a", CopySource="other-data/a"), "policy.no_match")

    def test_a_delete_of_many_of_which_one_is_denied(self):
        keys = [{"Key": "fine"}, {"Key": "secret/a"}]
        self.refuses("s3", lambda s3: s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys}), "policy.denied")

    def test_a_table_that_no_statement_names(self):
        self.refuses("dynamodb", lambda d: d.get_item(TableName="others", Key={"id": {"S": "1"}}), "policy.no_match")

    def test_a_batch_with_one_table_that_no_statement_names(self):
        items = {table: {"Keys": [{"id": {"S": "1"}}]} for table in ("orders", "others")}
        self.refuses("dynamodb", lambda d: d.batch_get_item(RequestItems=items), "policy.no_match")

    def test_a_queue_of_another_account(self):
        url = f"https://sqs.{REGION}.amazonaws.com/{FOREIGN_ACCOUNT}/orders"
        self.refuses("sqs", lambda sqs: sqs.send_message(QueueUrl=url, MessageBody="leak"), "policy.no_match")

    def test_a_role_that_no_statement_names(self):
        role = f"arn:aws:iam::{FOREIGN_ACCOUNT}:role/unnamed"
        self.refuses("sts", lambda sts: sts.assume_role(RoleArn=role, RoleSessionName="trial"), "policy.no_match")

    def test_a_region_that_no_statement_names(self):
        self.refuses("dynamodb", lambda d: d.get_item(TableName="orders", Key={"id": {"S": "1"}}), "policy.no_match", sdk={"region_name": "us-west-2"})

    def test_an_operation_that_no_statement_names(self):
        self.refuses("kms", lambda kms: kms.list_aliases(), "policy.no_match")

    def test_a_key_of_another_account(self):
        sdk = {"aws_access_key_id": FOREIGN_KEY, "aws_secret_access_key": "somebody-elses"}
        reasons = "sigv4.unknown_key", "sigv4.perimeter", "policy.perimeter"
        self.refuses("s3", lambda s3: s3.list_buckets(), *reasons, key_id=FOREIGN_KEY, sdk=sdk)
        self.refuses("dynamodb", lambda d: d.list_tables(), *reasons, key_id=FOREIGN_KEY, sdk=sdk)

    def test_a_key_of_our_account_that_is_not_known(self):
        stranger = lab.key_id_of(ACCOUNT, "STRAY")
        sdk = {"aws_access_key_id": stranger, "aws_secret_access_key": "unknown"}
        self.refuses("s3", lambda s3: s3.list_buckets(), "sigv4.unknown_key", key_id=stranger, sdk=sdk)

    def test_a_known_key_id_with_another_secret(self):
        sdk = {"aws_access_key_id": KEY, "aws_secret_access_key": "guessed"}
        self.refuses("s3", lambda s3: s3.list_buckets(), "sigv4.signature", sdk=sdk)
        self.refuses("sqs", lambda sqs: sqs.create_queue(QueueName="orders"), "sigv4.signature", sdk=sdk)

    def test_an_unsigned_call(self):
        sdk = {"config": {"signature_version": UNSIGNED}}
        self.refuses("s3", lambda s3: s3.get_object(Bucket=BUCKET, Key="a"), "sigv4.unsigned", key_id=None, sdk=sdk)
        self.refuses("dynamodb", lambda d: d.list_tables(), "sigv4.unsigned", key_id=None, sdk=sdk)

    def test_a_head_without_a_sentence(self):
        attempts = Attempts()
        s3 = client("s3", attempts=attempts)
        with self.refused("policy.no_match") as refusal, self.assertRaises(ClientError) as raised:
            s3.head_object(Bucket="other-data", Key="a")
        metadata = raised.exception.response["ResponseMetadata"]
        self.assertEqual((metadata["HTTPStatusCode"], len(attempts)), (403, 1))
        self.verdict(metadata["HTTPHeaders"]["exeat-verdict"], refusal)


class OnTheWire(Trial):
    """What no SDK sends: its own request, caught before it left, with one thing changed."""

    def caught(self, service, call, **sdk):
        """The signed request that `call` would have sent."""
        class Caught(Exception):
            pass

        def keep(request, **_):
            held.append(request)
            raise Caught

        held, made = [], client(service, **sdk)
        made.meta.events.register("before-send", keep)
        with self.assertRaises(Caught):
            call(made)
        return held[0].url.split("/")[2], wire.http1(held[0])

    def send(self, host, data, **options):
        return wire.through(self.world.port, self.world.ca, host, data, **options)

    def answers(self, answer, refusal):
        self.assertEqual(answer.status, 403, answer)
        self.verdict(answer.verdict, refusal)
        self.assertIn(f"[{refusal.event.ours['reason']}]".encode(), answer.body)

    def put_item(self, text):
        return self.caught("dynamodb", lambda d: d.put_item(TableName="orders", Item={"id": {"S": text}}))

    def put_object(self, key, body):
        signed = {"config": {"s3": {"payload_signing_enabled": True}, "request_checksum_calculation": "when_required"}}
        return self.caught("s3", lambda s3: s3.put_object(Bucket=BUCKET, Key=key, Body=body, Metadata={"colour": "red"}), **signed)

    def test_passes_the_same_request_unchanged(self):
        """Without this the others could pass for a fault of this client."""
        client("s3").create_bucket(Bucket=BUCKET)
        host, data = self.put_object("unchanged", b"body")
        self.assertEqual(self.send(host, data).status, 200)

    def test_a_header_with_one_byte_changed(self):
        host, data = self.put_object("changed", b"body")
        with self.refused("sigv4.signature") as refusal:
            answer = self.send(host, data.replace(b"colour: red", b"colour: rod"))
        self.answers(answer, refusal)

    def test_a_header_that_was_not_signed(self):
        host, data = self.put_object("added", b"body")
        with self.refused("sigv4.unsigned_header", key_id=None) as refusal:
            answer = self.send(host, data.replace(b"\r\n", b"\r\nx-amz-acl: public-read\r\n", 1))
        self.answers(answer, refusal)

    def test_a_json_body_with_one_byte_changed(self):
        host, data = self.put_item("AAAA")
        # Without x-amz-content-sha256 a changed body and a changed head look the same.
        with self.refused("sigv4.signature", "sigv4.payload") as refusal:
            answer = self.send(host, data.replace(b"AAAA", b"AAAB"))
        self.answers(answer, refusal)

    def test_an_object_with_one_byte_changed_is_not_stored(self):
        host, data = self.put_object("tampered", b"body")
        mark = self.world.audit.mark()
        answer = self.send(host, data.removesuffix(b"body") + b"bodi")
        self.assertIn(answer.status, (400, 403))
        _, events = self.world.audit.settled(mark)
        self.assertEqual([event.ours.get("reason") for event in events], ["sigv4.payload"])
        with self.assertRaises(ClientError):
            client("s3").get_object(Bucket=BUCKET, Key="tampered")

    def test_a_request_line_with_another_path(self):
        host, data = self.put_object("here", b"body")
        with self.refused("sigv4.signature") as refusal:
            answer = self.send(host, data.replace(b"PUT /here ", b"PUT /hero "))
        self.answers(answer, refusal)

    def test_an_operation_that_the_atlas_does_not_know(self):
        request = AWSRequest("POST", f"https://{DYNAMODB}/", data=b"{}", headers={
            "X-Amz-Target": "DynamoDB_20120810.MakeItUp", "Content-Type": "application/x-amz-json-1.0"})
        SigV4Auth(Credentials(KEY, SECRET), "dynamodb", REGION).add_auth(request)
        with self.refused("policy.no_match") as refusal:
            answer = self.send(DYNAMODB, wire.http1(request.prepare()))
        self.answers(answer, refusal)
        self.assertEqual(refusal.event["eventName"], "?")

    def test_a_scope_of_another_service(self):
        request = AWSRequest("POST", f"https://{DYNAMODB}/", data=b"{}", headers={
            "X-Amz-Target": "DynamoDB_20120810.ListTables", "Content-Type": "application/x-amz-json-1.0"})
        SigV4Auth(Credentials(KEY, SECRET), "sqs", REGION).add_auth(request)
        with self.refused("sigv4.scope_host") as refusal:
            answer = self.send(DYNAMODB, wire.http1(request.prepare()))
        self.answers(answer, refusal)

    def test_a_presigned_url_of_version_2(self):
        url = client("s3").generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "a"})
        self.assertIn("AWSAccessKeyId=", url, "boto3's default for us-east-1 is no longer version 2: this test tests nothing")
        with self.refused("sigv4.version_2", key_id=None):
            self.assertEqual(requests.get(url, timeout=20).status_code, 403)

    def test_a_host_header_of_another_service(self):
        host, data = self.put_item("host")
        with self.refused("target.mismatch", key_id=None):
            answer = self.send(f"sqs.{REGION}.amazonaws.com", data)
        self.assertIn(answer.status, (400, 403))
        self.assertIn("target.mismatch", answer.verdict)

    def test_a_third_party_that_no_statement_names(self):
        with self.refused("policy.no_match", key_id=None):
            answer = self.send("example.com", b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
        self.assertEqual(answer.status, 403)

    def test_an_address_instead_of_a_name(self):
        with self.refused("target.literal", key_id=None):
            _, answer = wire.connect(self.world.port, f"127.0.0.1:{self.world.moto.port}")
        self.assertEqual(answer.status, 403, answer)

    def test_plain_http(self):
        with self.refused("tls.plaintext", key_id=None) as refusal:
            done = subprocess.run(["curl", "-s", "-i", "-x", self.world.proxy, f"http://{BUCKET}.s3.amazonaws.com/a"],
                                  capture_output=True, text=True, timeout=20)
        self.assertTrue(done.stdout.startswith("HTTP/1.1 403"), done)
        self.assertIn(f"[{refusal.event.ours['reason']}]", done.stdout)
