"""Nothing below TLS 1.2, on either leg: the other side is openssl, told to be old."""

import subprocess

from botocore.exceptions import ClientError

from world import OLD_HOST, REGION, Attempts, Trial, client

OLD = ["-cipher", "ALL:@SECLEVEL=0"]


class Floor(Trial):
    def hello(self, *options):
        """openssl's client through the proxy; what it said."""
        done = subprocess.run(["openssl", "s_client", "-proxy", f"127.0.0.1:{self.world.port}", "-connect", f"sts.{REGION}.amazonaws.com:443",
                               "-CAfile", self.world.ca, *options], input=b"", capture_output=True, timeout=20)
        return done.stdout.decode() + done.stderr.decode()

    def test_refuses_an_old_client_with_the_alert_of_its_own(self):
        for version in ("-tls1", "-tls1_1"):
            with self.subTest(version), self.refused("tls.below_floor", key_id=None):
                said = self.hello(version, *OLD)
                self.assertIn("alert protocol version", said)

    def test_serves_tls_1_2_and_1_3(self):
        for option, version in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
            with self.subTest(version):
                said = self.hello(option)
                self.assertIn(f"New, {version}", said)
                self.assertIn("Verify return code: 0 (ok)", said)

    def test_names_a_client_that_does_not_trust_our_certificate(self):
        with self.refused("tls.client_distrusts", key_id=None):
            said = self.hello("-CAfile", self.world.folder / "origin-ca.pem", "-verify_return_error")
            self.assertIn("verify error", said)

    def test_names_an_old_origin_and_does_not_speak_to_it(self):
        attempts = Attempts()
        kms = client("kms", attempts=attempts)
        mark = self.world.audit.mark()
        with self.assertRaises(ClientError) as raised:
            kms.list_keys()
        response = raised.exception.response
        self.assertEqual(response["ResponseMetadata"]["HTTPStatusCode"], 403, response)
        self.assertIn("[upstream.below_floor]", response["Error"]["Message"])
        self.assertEqual(len(attempts), 1, "the SDK tried again")
        _, events = self.world.audit.settled(mark)
        self.assertEqual([event.ours["reason"] for event in events], ["upstream.below_floor"])
        self.assertTrue(events[0].ours["host"].startswith(OLD_HOST), events[0])
        self.assertIsNone(events[0].upstream_tls)
