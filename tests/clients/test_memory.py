"""A body of a GiB passes in constant memory, whatever the client signs of it."""

import subprocess
import threading
import time
from contextlib import contextmanager

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from world import KEY, REGION, SECRET, SINK_BUCKET, Trial, client

GIB, GROWTH_KIB = 1 << 30, 32 << 10


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


class UnsignedBody(S3SigV4Auth):
    def payload(self, _):
        return "UNSIGNED-PAYLOAD"


class Memory(Trial):
    @classmethod
    def setUpClass(cls):
        from world import WORLD
        cls.file = WORLD.folder / "gib"
        with open(cls.file, "wb") as file:
            file.truncate(GIB)  # sparse: the trial costs no disk

    def setUp(self):
        self.world.sink.received.clear()

    @contextmanager
    def flat(self):
        pid, seen, done = self.world.exeat.pid, [], threading.Event()
        before = resident_kib(pid)

        def sample():
            while not done.is_set():
                seen.append(resident_kib(pid))
                time.sleep(0.02)

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            yield
        finally:
            done.set()
            sampler.join()
        self.assertGreater(len(seen), 10, "too few samples to say anything")
        self.assertLess(max(seen) - before, GROWTH_KIB, f"resident memory grew from {before} to {max(seen)} KiB")

    def received(self):
        self.assertEqual(len(self.world.sink.received), 1, "one upload, once")
        return self.world.sink.received.pop()

    def test_boto3_s_default_upload(self):
        s3 = client("s3", config={"read_timeout": 60})
        arn = f"arn:aws:s3:::{SINK_BUCKET}/gib"
        with self.flat(), self.one_call("s3:PutObject", payload="checksum", arn=arn), open(self.file, "rb") as body:
            s3.put_object(Bucket=SINK_BUCKET, Key="gib", Body=body)
        self.assertGreater(self.received(), GIB, "the chunks' framing is part of what is sent")

    def test_an_upload_with_an_unsigned_body(self):
        url = f"https://{SINK_BUCKET}.s3.amazonaws.com/gib"
        request = AWSRequest("PUT", url)
        UnsignedBody(Credentials(KEY, SECRET), "s3", REGION).add_auth(request)
        headers = [word for name, value in request.headers.items() for word in ("-H", f"{name}: {value}")]
        with self.flat(), self.one_call("s3:PutObject", payload="unsigned", arn=f"arn:aws:s3:::{SINK_BUCKET}/gib"):
            done = subprocess.run(["curl", "-sS", "--fail", "-T", self.file, *headers, url], env=self.world.environment(), capture_output=True, timeout=90)
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(self.received(), GIB)
