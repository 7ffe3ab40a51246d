"""What the policy allows works with boto3 as it is, and each call leaves its intent and its event."""

import io
import json
import urllib.request

import requests

from world import ACCOUNT, REGION, Trial, client

BUCKET = "trial-data"


def s3_arn(key=None):
    return f"arn:aws:s3:::{BUCKET}" + (f"/{key}" if key else "")


def arn(service, rest):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{rest}"


class S3(Trial):
    @classmethod
    def setUpClass(cls):
        cls.s3 = client("s3")
        cls.s3.create_bucket(Bucket=BUCKET)  # again and again: its owner may

    def test_creates_and_lists_buckets(self):
        with self.one_call("s3:CreateBucket", arn=s3_arn()):
            self.s3.create_bucket(Bucket=BUCKET)
        with self.one_call("s3:ListBuckets"):
            self.assertIn(BUCKET, [bucket["Name"] for bucket in self.s3.list_buckets()["Buckets"]])

    def test_puts_and_gets_the_same_bytes(self):
        with self.one_call("s3:PutObject", payload="checksum", arn=s3_arn("bytes")):
            self.s3.put_object(Bucket=BUCKET, Key="bytes", Body=b"some bytes")
        with self.one_call("s3:GetObject", arn=s3_arn("bytes")):
            self.assertEqual(self.s3.get_object(Bucket=BUCKET, Key="bytes")["Body"].read(), b"some bytes")

    def test_puts_a_stream(self):
        data = bytes(range(256)) * 4096
        with self.one_call("s3:PutObject", payload="checksum", arn=s3_arn("stream")):
            self.s3.put_object(Bucket=BUCKET, Key="stream", Body=io.BytesIO(data))
        self.assertEqual(self.s3.get_object(Bucket=BUCKET, Key="stream")["Body"].read(), data)

    def test_puts_with_the_body_signed(self):
        s3 = client("s3", config={"s3": {"payload_signing_enabled": True}, "request_checksum_calculation": "when_required"})
        with self.one_call("s3:PutObject", arn=s3_arn("signed")):
            s3.put_object(Bucket=BUCKET, Key="signed", Body=b"signed bytes")
        self.assertEqual(self.s3.get_object(Bucket=BUCKET, Key="signed")["Body"].read(), b"signed bytes")

    def test_keeps_an_odd_key_as_it_is(self):
        key = "a b/../ü+%41//c"
        with self.one_call("s3:PutObject", payload="checksum", arn=s3_arn(key)):
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=b"odd")
        self.assertEqual(self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read(), b"odd")

    def test_heads_and_lists(self):
        self.s3.put_object(Bucket=BUCKET, Key="list/one", Body=b"1")
        with self.one_call("s3:HeadObject", arn=s3_arn("list/one")):
            self.assertEqual(self.s3.head_object(Bucket=BUCKET, Key="list/one")["ContentLength"], 1)
        with self.one_call("s3:ListObjectsV2", arn=s3_arn()):
            listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix="list/")
        self.assertEqual([entry["Key"] for entry in listed["Contents"]], ["list/one"])

    def test_copies_from_and_to_what_is_allowed(self):
        self.s3.put_object(Bucket=BUCKET, Key="from", Body=b"copied")
        with self.one_call("s3:CopyObject", arn=s3_arn("to")):
            self.s3.copy_object(Bucket=BUCKET, Key="to", CopySource={"Bucket": BUCKET, "Key": "from"})
        self.assertEqual(self.s3.get_object(Bucket=BUCKET, Key="to")["Body"].read(), b"copied")

    def test_deletes_one_and_many(self):
        for key in ("gone/1", "gone/2", "gone/3"):
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=b"")
        with self.one_call("s3:DeleteObject", arn=s3_arn("gone/1")):
            self.s3.delete_object(Bucket=BUCKET, Key="gone/1")
        with self.one_call("s3:DeleteObjects", arn=s3_arn("gone/3")):
            self.s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "gone/2"}, {"Key": "gone/3"}]})
        self.assertEqual(self.s3.list_objects_v2(Bucket=BUCKET, Prefix="gone/")["KeyCount"], 0)

    def test_uploads_in_parts(self):
        part = bytes(5 << 20)
        with self.one_call("s3:CreateMultipartUpload", arn=s3_arn("parts")):
            upload = self.s3.create_multipart_upload(Bucket=BUCKET, Key="parts")["UploadId"]
        done = []
        for number, body in ((1, part), (2, b"the rest")):
            with self.one_call("s3:UploadPart", payload="checksum", arn=s3_arn("parts")):
                etag = self.s3.upload_part(Bucket=BUCKET, Key="parts", UploadId=upload, PartNumber=number, Body=body)["ETag"]
            done.append({"PartNumber": number, "ETag": etag})
        with self.one_call("s3:CompleteMultipartUpload", arn=s3_arn("parts")):
            self.s3.complete_multipart_upload(Bucket=BUCKET, Key="parts", UploadId=upload, MultipartUpload={"Parts": done})
        self.assertEqual(self.s3.head_object(Bucket=BUCKET, Key="parts")["ContentLength"], len(part) + 8)

    def test_lets_presigned_urls_be_used(self):
        s3 = client("s3", config={"signature_version": "s3v4"})
        put = s3.generate_presigned_url("put_object", {"Bucket": BUCKET, "Key": "presigned"})
        with self.one_call("s3:PutObject", auth="presigned", payload="unsigned", arn=s3_arn("presigned")):
            self.assertEqual(requests.put(put, data=b"by url", timeout=20).status_code, 200)
        get = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "presigned"})
        with self.one_call("s3:GetObject", auth="presigned", payload="unsigned", arn=s3_arn("presigned")):
            self.assertEqual(urllib.request.urlopen(get, timeout=20).read(), b"by url")


class DynamoDb(Trial):
    TABLE = arn("dynamodb", "table/orders")

    @classmethod
    def setUpClass(cls):
        cls.dynamodb = client("dynamodb")

    def test_makes_a_table_and_reads_and_writes_it(self):
        d, key = self.dynamodb, {"id": {"S": "1"}}
        with self.one_call("dynamodb:CreateTable", arn=self.TABLE):
            d.create_table(TableName="orders", BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                           AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}])
        with self.one_call("dynamodb:PutItem", arn=self.TABLE):
            d.put_item(TableName="orders", Item=key | {"n": {"N": "7"}})
        with self.one_call("dynamodb:GetItem", arn=self.TABLE):
            self.assertEqual(d.get_item(TableName="orders", Key=key)["Item"]["n"], {"N": "7"})
        with self.one_call("dynamodb:Query", arn=self.TABLE):
            found = d.query(TableName="orders", KeyConditionExpression="id = :i", ExpressionAttributeValues={":i": {"S": "1"}})
        self.assertEqual(found["Count"], 1)
        with self.one_call("dynamodb:BatchWriteItem", arn=self.TABLE):
            d.batch_write_item(RequestItems={"orders": [{"PutRequest": {"Item": {"id": {"S": "2"}}}}]})
        with self.one_call("dynamodb:BatchGetItem", arn=self.TABLE):
            got = d.batch_get_item(RequestItems={"orders": {"Keys": [key, {"id": {"S": "2"}}]}})
        self.assertEqual(len(got["Responses"]["orders"]), 2)
        with self.one_call("dynamodb:TransactWriteItems", arn=self.TABLE):
            d.transact_write_items(TransactItems=[{"Put": {"TableName": "orders", "Item": {"id": {"S": "3"}}}},
                                                  {"Delete": {"TableName": "orders", "Key": {"id": {"S": "2"}}}}])
        with self.one_call("dynamodb:ListTables"):
            self.assertEqual(d.list_tables()["TableNames"], ["orders"])


class Messages(Trial):
    def test_sends_and_receives_with_sqs(self):
        sqs, queue = client("sqs"), arn("sqs", "orders")
        with self.one_call("sqs:CreateQueue", arn=queue):
            url = sqs.create_queue(QueueName="orders")["QueueUrl"]
        with self.one_call("sqs:SendMessage", arn=queue):
            sqs.send_message(QueueUrl=url, MessageBody="one")
        with self.one_call("sqs:SendMessageBatch", arn=queue):
            sqs.send_message_batch(QueueUrl=url, Entries=[{"Id": "2", "MessageBody": "two"}, {"Id": "3", "MessageBody": "three"}])
        with self.one_call("sqs:ReceiveMessage", arn=queue):
            received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
        self.assertEqual(sorted(message["Body"] for message in received), ["one", "three", "two"])

    def test_publishes_with_sns(self):
        sns, topic = client("sns"), arn("sns", "orders")
        with self.one_call("sns:CreateTopic", arn=topic):
            self.assertEqual(sns.create_topic(Name="orders")["TopicArn"], topic)
        with self.one_call("sns:Publish", arn=topic):
            sns.publish(TopicArn=topic, Message="näws & more=1")


class Others(Trial):
    ROLE = f"arn:aws:iam::{ACCOUNT}:role/trial"

    def test_asks_sts_who_it_is_and_takes_a_role(self):
        sts = client("sts")
        with self.one_call("sts:GetCallerIdentity"):
            self.assertEqual(sts.get_caller_identity()["Account"], ACCOUNT)
        with self.one_call("sts:AssumeRole", arn=self.ROLE):
            taken = sts.assume_role(RoleArn=self.ROLE, RoleSessionName="trial")
        self.assertTrue(taken["Credentials"]["AccessKeyId"].startswith("ASIA"))

    def test_lists_and_invokes_lambda_functions(self):
        iam, functions, function = client("iam"), client("lambda"), arn("lambda", "function:trial")
        with self.one_call("iam:CreateRole"):
            iam.create_role(RoleName="trial", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [
                {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}]}))
        with self.one_call("lambda:ListFunctions"):
            functions.list_functions()
        with self.one_call("lambda:CreateFunction"):
            functions.create_function(FunctionName="trial", Runtime="python3.12", Role=self.ROLE, Handler="a.b", Code={"ZipFile": b"PK\5\6" + bytes(18)})
        with self.one_call("lambda:Invoke", arn=function):
            self.assertEqual(functions.invoke(FunctionName="trial", Payload=b"{}")["StatusCode"], 200)

    def test_starts_a_state_machine(self):
        states, machine = client("stepfunctions"), arn("states", "stateMachine:trial")
        definition = json.dumps({"StartAt": "Pass", "States": {"Pass": {"Type": "Pass", "End": True}}})
        with self.one_call("states:ListStateMachines"):
            states.list_state_machines()
        with self.one_call("states:CreateStateMachine"):
            states.create_state_machine(name="trial", definition=definition, roleArn=self.ROLE)
        with self.one_call("states:StartExecution"):
            states.start_execution(stateMachineArn=machine, input="{}")

    def test_keeps_a_secret(self):
        secrets = client("secretsmanager")
        with self.one_call("secretsmanager:CreateSecret"):
            secrets.create_secret(Name="trial", SecretString="s3cret")
        with self.one_call("secretsmanager:GetSecretValue"):
            self.assertEqual(secrets.get_secret_value(SecretId="trial")["SecretString"], "s3cret")
