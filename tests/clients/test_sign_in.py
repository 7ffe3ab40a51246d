"""Getting keys: botocore's own providers under `exec`, against a portal, a token service and an STS that check what they are
brought. The calls of sign-in pass, what the keys then sign is judged by their account, and no other call rides along."""

import hashlib
import json
import sys

from under import UnderExec
from world import ACCOUNT, ANSWERS_TLS, FOREIGN_ACCOUNT, KEY, REGION, SECRET

LIST = "import boto3; print(boto3.client('dynamodb').list_tables()['ResponseMetadata']['HTTPStatusCode'])"
# As the program's own calls would be that nobody signs.
UNSIGNED = ("import boto3, botocore; from botocore.config import Config; "
            "boto3.client('sts', config=Config(signature_version=botocore.UNSIGNED)).")
START = "https://d-1234567890.awsapps.com/start"


class SignIn(UnderExec):
    def signed_in(self, code, *, home, config="", flags=(), **variables):
        """Runs Python with a user's files and no keys in the environment: (process, events, what the far side was asked)."""
        (home / ".aws").mkdir(parents=True, exist_ok=True)
        (home / ".aws" / "config").write_text(config)
        before = len(self.world.sign_in.asked)
        there = [f"{host}.{REGION}.amazonaws.com:443=127.0.0.1:{self.world.sign_in.port}" for host in ("portal.sso", "oidc", "sts")]
        rules = [word for rule in there for word in ("--connect-to", rule)]
        done, events = self.run_it(sys.executable, "-c", code, flags=(*flags, *rules),
                                   **{"HOME": str(home), "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""} | variables)
        for secret in (self.world.sign_in.SECRET, self.world.sign_in.TOKEN, self.world.sign_in.REFRESH, SECRET):
            self.assertNotIn(secret, self.file.path.read_text())
        return done, events, self.world.sign_in.asked[before:]

    def facts(self, events):
        return [(event.call, *(event.ours.get(name) for name in ("auth", "signature", "statement"))) for event in events]

    def then_listed(self, event):
        """The call that the new key signed: exeat has learned it from the answer."""
        self.assertEqual(self.facts([event]), [("dynamodb:ListTables", "sigv4", "verified", "built-in-verified")])
        self.assertEqual((event.key_id, event.ours["decision"]), (self.world.sign_in.issued(ACCOUNT), "allow"))
        self.assertIn(event.upstream_tls, ANSWERS_TLS)

    def sso(self, home, account):
        """A session whose token has run out; its config."""
        cache = home / ".aws" / "sso" / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        (cache / (hashlib.sha1(b"work").hexdigest() + ".json")).write_text(json.dumps({
            "startUrl": START, "region": REGION, "accessToken": self.world.sign_in.OLD_TOKEN, "expiresAt": "2020-01-01T00:00:00Z",
            "clientId": "c", "clientSecret": "s", "refreshToken": self.world.sign_in.REFRESH, "registrationExpiresAt": "2099-01-01T00:00:00Z"}))
        return (f"[default]\nsso_session = work\nsso_account_id = {account}\nsso_role_name = dev\n"
                f"[sso-session work]\nsso_start_url = {START}\nsso_region = {REGION}\nsso_registration_scopes = sso:account:access\n")

    def test_an_sso_session_is_refreshed_and_gives_its_keys(self):
        home = self.world.folder / "sso"
        done, events, asked = self.signed_in(LIST, home=home, config=self.sso(home, ACCOUNT))
        self.assertEqual((done.returncode, done.stdout), (0, "200\n"), done)
        self.assertEqual(asked, ["CreateToken", "GetRoleCredentials"])
        self.assertEqual(self.facts(events[:-1]), [("sso-oauth:CreateToken", "none", "unsigned", "sdk-sign-in-oidc"),
                                                   ("awsssoportal:GetRoleCredentials", "token", "unsigned", "sdk-sign-in-sso")])
        self.then_listed(events[-1])
        self.assertIn(f"your account {ACCOUNT}", done.stderr)

    def test_a_role_is_assumed_by_the_profiles_own_key(self):
        home = self.world.folder / "assume"
        (home / ".aws").mkdir(parents=True, exist_ok=True)
        (home / ".aws" / "credentials").write_text(f"[base]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
        config = f"[default]\nrole_arn = arn:aws:iam::{ACCOUNT}:role/trial\nsource_profile = base\n"
        done, events, asked = self.signed_in(LIST, home=home, config=config)
        self.assertEqual((done.returncode, done.stdout), (0, "200\n"), done)
        self.assertEqual(asked, ["AssumeRole"])
        self.assertEqual(self.facts(events[:-1]), [("sts:AssumeRole", "sigv4", "verified", "built-in-verified")])
        self.then_listed(events[-1])

    def web_identity(self, code, account, **more):
        home = self.world.folder / "web"
        home.mkdir(exist_ok=True)
        (home / "token").write_text("a.b.c")
        return self.signed_in(code, home=home, AWS_ROLE_ARN=f"arn:aws:iam::{account}:role/trial",
                              AWS_WEB_IDENTITY_TOKEN_FILE=str(home / "token"), **more)

    def test_a_web_identity_is_exchanged(self):
        done, events, asked = self.web_identity(LIST, ACCOUNT)
        self.assertEqual((done.returncode, done.stdout), (0, "200\n"), done)
        self.assertEqual(asked, ["AssumeRoleWithWebIdentity"])
        self.assertEqual(self.facts(events[:-1]), [("sts:AssumeRoleWithWebIdentity", "none", "unsigned", "sdk-sign-in-role")])
        self.then_listed(events[-1])

    def test_a_key_of_another_account_is_had_and_signs_nothing(self):
        # The environment says one account; the program signs in to another by itself.
        code = (f"import boto3; role = 'arn:aws:iam::{FOREIGN_ACCOUNT}:role/trial'; "
                "had = boto3.client('sts').assume_role_with_web_identity(RoleArn=role, RoleSessionName='trial', WebIdentityToken='a.b.c'); "
                "key, secret, token, _ = had['Credentials'].values(); "
                "boto3.client('dynamodb', aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token).list_tables()")
        done, events, asked = self.web_identity(code, ACCOUNT)
        self.assertEqual(asked, ["AssumeRoleWithWebIdentity"])
        self.assertRegex(done.stderr, r"AccessDenied.*exeat denies dynamodb:ListTables")
        self.assertEqual(events[-1].ours["reason"], "sigv4.perimeter")
        self.assertEqual([(event.call, event.ours["decision"]) for event in events],
                         [("sts:AssumeRoleWithWebIdentity", "allow"), ("dynamodb:ListTables", "deny")])

    def test_no_other_call_passes_as_sign_in(self):
        for code, reason in (("get_caller_identity()", "sigv4.unsigned"), ("get_session_token()", "sigv4.unsigned"),
                             ("assume_role(RoleArn='arn:aws:iam::123456789012:role/trial', RoleSessionName='trial')", "sigv4.unsigned")):
            with self.subTest(code):
                done, events, asked = self.web_identity(UNSIGNED + code, ACCOUNT)
                self.assertEqual((done.returncode, asked), (1, []), done)
                self.assertEqual([event.ours["reason"] for event in events], [reason])
                self.assertRegex(done.stderr, rf"AccessDenied.*\[{reason}\]")

    def test_a_policy_of_ones_own_keeps_sign_in_and_names_the_rest(self):
        policy = self.world.folder / "sign-in.yaml"
        policy.write_text("version: 1\nstatements:\n  - {id: tables, effect: allow, action: dynamodb:ListTables, resource: '*'}\n")
        code = LIST + "; boto3.client('sts').get_caller_identity()"
        done, events, asked = self.web_identity(code, ACCOUNT, flags=("--policy", policy))
        self.assertEqual((done.stdout, asked), ("200\n", ["AssumeRoleWithWebIdentity"]), done)
        self.assertEqual([event.ours.get("statement") for event in events[:-1]], ["sdk-sign-in-role", "tables"])
        self.assertEqual((events[-1].call, events[-1].ours["decision"]), ("sts:GetCallerIdentity", "deny"))
        self.assertIn(f"[{events[-1].ours['reason']}]", done.stderr)
