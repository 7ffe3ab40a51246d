"""What moto saw, as CloudTrail would deliver it. Read off the wire, so it owes nothing to what exeat recorded."""

import gzip
import io
import json
import re
import time
import uuid
from urllib.parse import parse_qs

S3_OPERATIONS = {("PUT", True): "PutObject", ("GET", True): "GetObject", ("HEAD", True): "HeadObject", ("DELETE", True): "DeleteObject",
                 ("PUT", False): "CreateBucket", ("GET", False): "ListObjects"}


class Call:
    """One request that reached moto. `request_id` comes with its answer."""

    def __init__(self, environ):
        self.time, self.request_id = time.time(), None
        claim = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        self.key, self.region, self.service = claim.groups() if claim else (None, "us-east-1", None)
        self.host, self.agent = environ["HTTP_HOST"], environ.get("HTTP_USER_AGENT", "")
        self.operation = self._operation(environ)

    def _operation(self, environ):
        if target := environ.get("HTTP_X_AMZ_TARGET"):
            return target.rsplit(".", 1)[1]
        if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            return parse_qs(body.decode())["Action"][0]
        if self.service == "s3":
            return S3_OPERATIONS.get((environ["REQUEST_METHOD"], environ["PATH_INFO"] != "/"))
        return None

    def record(self, **more):
        """A record of eventVersion 1.11."""
        return {
            "eventVersion": "1.11", "eventTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.time)),
            "eventSource": f"{self.service}.amazonaws.com", "eventName": self.operation, "awsRegion": self.region,
            "sourceIPAddress": "127.0.0.1", "userAgent": self.agent, "requestID": self.request_id, "eventID": str(uuid.uuid4()),
            "userIdentity": {"type": "IAMUser", "accessKeyId": self.key}, "eventType": "AwsApiCall", "eventCategory": "Data",
            "tlsDetails": {"tlsVersion": "TLSv1.3", "clientProvidedHostHeader": self.host},
        } | more


def deliver(path, records):
    with gzip.open(path, "wt") as file:
        json.dump({"Records": records}, file)
    return path
