"""`exeat exec -- CMD`: clients that are told nothing but their environment, each runtime by its own hooks."""

import json
import sys
from pathlib import Path

import lab
from under import UnderExec
from world import ACCOUNT, FOREIGN_KEY, KEY, REGION, SECRET, client

AWS = str(Path(sys.executable).parent / "aws")
BUCKET = "trial-data"

# Every kind of client that Node has; the SDK's with defaults, streams included.
NODE = r"""
const { S3Client, PutObjectCommand, GetObjectCommand } = require('@aws-sdk/client-s3');
const { DynamoDBClient, ListTablesCommand } = require('@aws-sdk/client-dynamodb');
const https = require('node:https');
const { Readable } = require('node:stream');
const get = (url) => new Promise((done, failed) => https.get(url, (answer) => {
  let text = ''; answer.on('data', (piece) => { text += piece; }).on('end', () => done([answer.statusCode, text]));
}).on('error', failed));
(async () => {
  const s3 = new S3Client({}), Bucket = process.env.BUCKET;
  await s3.send(new PutObjectCommand({ Bucket, Key: 'node.txt', Body: 'by node' }));
  await s3.send(new PutObjectCommand({ Bucket, Key: 'stream.txt', Body: Readable.from(['by ', 'stream']), ContentLength: 9 }));
  const got = await s3.send(new GetObjectCommand({ Bucket, Key: 'stream.txt' }));
  const said = { body: await got.Body.transformToString() };
  said.tables = (await new DynamoDBClient({}).send(new ListTablesCommand({}))).TableNames.length >= 0;
  said.fetch = (await fetch('https://api.example.amazonaws.com/')).headers.get('exeat-verdict');
  said.again = (await fetch('https://api.example.amazonaws.com/')).status;
  said.https = (await get('https://api.example.amazonaws.com/'))[1];
  try { await fetch('http://api.example.amazonaws.com/'); said.plain = 'went'; } catch (error) { said.plain = String(error.cause); }
  console.log(JSON.stringify(said));
})().catch((error) => { console.error(error); process.exit(1); });
"""

KINESIS = r"""
const { KinesisClient, ListStreamsCommand } = require('@aws-sdk/client-kinesis');
new KinesisClient({ maxAttempts: 1 }).send(new ListStreamsCommand({})).then(() => console.log('went'), (error) => console.log(String(error)));
"""

JAVA = r"""
import java.io.*; import java.net.*; import java.net.http.*;
public class Ask { public static void main(String[] names) throws Exception {
    for (String name : names) {
        HttpURLConnection old = (HttpURLConnection) new URL("https://" + name + "/").openConnection();
        System.out.println(old.getResponseCode() + " " + old.getHeaderField("exeat-verdict"));
        HttpResponse<String> now = HttpClient.newHttpClient().send(
            HttpRequest.newBuilder(URI.create("https://" + name + "/")).build(), HttpResponse.BodyHandlers.ofString());
        System.out.println(now.statusCode() + " " + now.headers().firstValue("exeat-verdict").orElse(""));
    }
} }
"""


class Exec(UnderExec):
    def test_boto3_is_verified_and_refused_with_the_place_of_the_rule(self):
        client("s3").create_bucket(Bucket=BUCKET)
        script = ("import boto3; s3 = boto3.client('s3'); s3.put_object(Bucket='trial-data', Key='exec.txt', Body=b'x');"
                  "print(s3.get_object(Bucket='trial-data', Key='exec.txt')['Body'].read()); s3.delete_bucket(Bucket='others')")
        policy = Path(__file__).parent / "policy.yaml"
        done, events = self.run_it(sys.executable, "-c", script, flags=["--policy", policy])
        self.assertEqual((done.returncode, done.stdout), (1, "b'x'\n"), done)
        self.assertEqual(self.calls(events), [("s3:PutObject", "verified"), ("s3:GetObject", "verified")])
        self.assertRegex(done.stderr, r"AccessDenied.*s3:DeleteBucket on arn:aws:s3:::others.*to allow it: \{id: allow-s3-DeleteBucket")
        self.assertIn("3 calls, 1 refused", done.stderr)

    def test_the_aws_cli_with_a_profile_whose_keys_come_later_passes_by_its_account(self):
        folder = self.world.folder / "later"
        (folder / ".aws").mkdir(parents=True, exist_ok=True)
        (folder / ".aws" / "config").write_text(f"[profile sso]\nsso_account_id = {ACCOUNT}\nsso_role_name = dev\nregion = {REGION}\n")
        # The keys that the program ends up with, which exec never sees: as SSO's would be, of that account or of another.
        for key, code in ((KEY.replace("AKIA", "ASIA"), 0), (FOREIGN_KEY.replace("AKIA", "ASIA"), 254)):
            keys = ["env", f"AWS_ACCESS_KEY_ID={key}", f"AWS_SECRET_ACCESS_KEY={SECRET}", "AWS_SESSION_TOKEN=t"]
            done, events = self.run_it(*keys, AWS, "dynamodb", "list-tables", HOME=str(folder), AWS_PROFILE="sso",
                                       AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
            self.assertIn(f"your account {ACCOUNT}", done.stderr)
            if code == 0:
                self.assertEqual(done.returncode, 0, done)
                self.assertEqual(self.calls(events), [("dynamodb:ListTables", "unknown_key")])
            else:
                self.assertNotEqual(done.returncode, 0, done)
                self.assertIn("[sigv4.unknown_key]", done.stderr)

    def test_node_goes_through_by_every_client_it_has(self):
        client("s3").create_bucket(Bucket=BUCKET)
        done, events = self.run_it("node", "-e", NODE, BUCKET=BUCKET)
        self.assertEqual(done.returncode, 0, done)
        said = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual(said["body"], "by stream")
        self.assertTrue(said["tables"])
        self.assertIn("target.unknown_aws", said["fetch"])
        self.assertEqual(said["again"], 403)
        self.assertIn("[target.unknown_aws]", said["https"])
        # Port 80 is refused, not gone around; what Node makes of that differs between versions.
        self.assertNotEqual(said["plain"], "went")
        self.assertIn("target.port", [event.ours.get("reason") for event in events])
        self.assertEqual(self.calls(events), [("s3:PutObject", "verified"), ("s3:PutObject", "verified"),
                                              ("s3:GetObject", "verified"), ("dynamodb:ListTables", "verified")])

    def test_node_goes_through_over_http_2(self):
        done, events = self.run_it("node", "-e", KINESIS)
        self.assertEqual(done.stdout.split(), ["went"], done)
        self.assertEqual(self.calls(events), [("kinesis:ListStreams", "verified")])
        self.assertEqual(events[0].ours["clientTls"]["alpn"], "h2", events)

    def test_node_is_refused_over_http_2_by_its_sdks_own_error(self):
        done, events = self.run_it("node", "-e", KINESIS, flags=("--policy", Path(__file__).parent / "sdks.yaml"))
        self.assertIn("AccessDeniedException", done.stdout, done)
        self.assertIn("[policy.no_match]", done.stdout, done)
        self.assertEqual([(event.ours["reason"], event.ours["signature"]) for event in events], [("policy.no_match", "verified")])

    def test_the_jvm_goes_through_and_believes_the_ca(self):
        source = self.world.folder / "Ask.java"
        source.write_text(JAVA)
        java = next((path for path in ("/usr/bin/java", "java") if lab.shutil.which(path)), "java")
        done, events = self.run_it(java, source, "sqs.us-east-1.amazonaws.com", JAVA_TOOL_OPTIONS="-Xshare:auto")
        self.assertEqual(done.returncode, 0, done)
        lines = done.stdout.splitlines()
        self.assertEqual(len(lines), 2, done)
        for line in lines:
            self.assertTrue(line.startswith("403 deny; reason=sigv4.unsigned"), done)
        self.assertEqual(len([event for event in events if event.ours.get("reason") == "sigv4.unsigned"]), 2)
        self.assertIn("-Xshare:auto", done.stderr)
