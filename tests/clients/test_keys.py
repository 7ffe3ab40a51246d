"""Keys that STS hands out through exeat: verified with their descent, and held to the perimeter like any other."""

import boto3
import botocore.session
from botocore.exceptions import ClientError

from world import ACCOUNT, FOREIGN_ACCOUNT, KEY, SECRET, REGION, Attempts, Trial

CONFIG = """[profile taken]
role_arn = arn:aws:iam::{account}:role/trial
source_profile = base
role_session_name = trial
"""


class Assumed(Trial):
    def session(self, account):
        """A session of botocore's own assume-role provider."""
        config, credentials = (self.world.folder / f"{account}-{name}" for name in ("config", "credentials"))
        config.write_text(CONFIG.format(account=account))
        credentials.write_text(f"[base]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
        core = botocore.session.Session()
        core.set_config_variable("profile", "taken")
        core.set_config_variable("config_file", str(config))
        core.set_config_variable("credentials_file", str(credentials))
        return boto3.Session(botocore_session=core, region_name=REGION)

    def test_a_role_of_ours_is_verified_with_its_descent(self):
        session = self.session(ACCOUNT)
        with self.one_call("sts:AssumeRole"):
            key_id = session.get_credentials().get_frozen_credentials().access_key
        self.assertNotEqual(key_id, KEY)
        mark = self.world.audit.mark()
        session.client("dynamodb").list_tables()
        _, (event,) = self.world.audit.settled(mark)
        self.assertEqual((event.ours["signature"], event.key_id), ("verified", key_id))
        self.assertEqual(event.ours["parents"], [{"by": "sts:AssumeRole", "key": KEY, "account": ACCOUNT}])
        self.assertNotIn("ownKey", event.ours)

    def test_a_role_of_strangers_verifies_and_is_refused(self):
        session, attempts = self.session(FOREIGN_ACCOUNT), Attempts()
        session.get_credentials().get_frozen_credentials()
        client = session.client("dynamodb")
        client.meta.events.register("before-send", attempts)
        with self.refused("sigv4.perimeter", key_id=None) as refusal, self.assertRaises(ClientError) as raised:
            client.list_tables()
        self.says_so(raised.exception, refusal, attempts)
        self.assertEqual(refusal.event.ours["signature"], "verified")
        self.assertEqual(refusal.event["userIdentity"]["accountId"], FOREIGN_ACCOUNT)
