"""Programs that are not Python libraries: the AWS CLI and curl, with nothing but the environment variables."""

import json
import subprocess
import sys
from pathlib import Path

from world import ACCOUNT, KEY, REGION, SECRET, Trial, client

AWS = str(Path(sys.executable).parent / "aws")
BUCKET = "trial-data"


class Programs(Trial):
    def run_it(self, *command, **options):
        done = subprocess.run([str(word) for word in command], env=self.world.environment(), capture_output=True, text=True, timeout=60, **options)
        self.assertEqual(done.returncode, 0, done)
        return done.stdout

    def refused_program(self, *command):
        done = subprocess.run([str(word) for word in command], env=self.world.environment(), capture_output=True, text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0, done)
        return done.stdout + done.stderr

    def test_the_aws_cli_copies_and_lists(self):
        client("s3").create_bucket(Bucket=BUCKET)
        file = self.world.folder / "cli.txt"
        file.write_text("by the command line")
        with self.one_call("s3:PutObject", payload="checksum", arn=f"arn:aws:s3:::{BUCKET}/cli.txt"):
            self.run_it(AWS, "s3", "cp", file, f"s3://{BUCKET}/cli.txt")
        with self.one_call("s3:ListObjectsV2", arn=f"arn:aws:s3:::{BUCKET}"):
            self.assertIn("cli.txt", self.run_it(AWS, "s3", "ls", f"s3://{BUCKET}/"))

    def test_the_aws_cli_asks_dynamodb_and_sts(self):
        with self.one_call("dynamodb:ListTables"):
            self.assertIn("TableNames", json.loads(self.run_it(AWS, "dynamodb", "list-tables", "--output", "json")))
        with self.one_call("sts:GetCallerIdentity"):
            self.assertEqual(json.loads(self.run_it(AWS, "sts", "get-caller-identity", "--output", "json"))["Account"], ACCOUNT)

    def test_the_aws_cli_shows_why(self):
        with self.refused("policy.no_match") as refusal:
            said = self.refused_program(AWS, "dynamodb", "delete-table", "--table-name", "others")
        self.assertIn(f"[{refusal.event.ours['reason']}]", said)
        self.assertIn("AccessDenied", said)

    def test_curl_signs_and_gets(self):
        s3 = client("s3")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="curl.txt", Body=b"by curl")
        # curl 7.88 signs no x-amz-content-sha256 of itself, which S3 wants.
        empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        with self.one_call("s3:GetObject", arn=f"arn:aws:s3:::{BUCKET}/curl.txt"):
            said = self.run_it("curl", "-sS", "--fail", "--aws-sigv4", f"aws:amz:{REGION}:s3", "--user", f"{KEY}:{SECRET}",
                               "-H", f"x-amz-content-sha256: {empty}", f"https://{BUCKET}.s3.{REGION}.amazonaws.com/curl.txt")
        self.assertEqual(said, "by curl")
