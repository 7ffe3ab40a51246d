"""The far side: moto behind TLS, what SDKs sign in at, a sink for large uploads, and servers that are too old. Each knows what reached it."""

import json
import socket
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import lab
import trail

# Every name the clients ask for. A proxy that let a name through which is not here would fail its handshake.
AWS_HOSTS = [
    "*.amazonaws.com", "*.us-east-1.amazonaws.com", "*.s3.amazonaws.com", "*.s3.us-east-1.amazonaws.com",
    "*.ddb.us-east-1.amazonaws.com", "*.sso.us-east-1.amazonaws.com", "*.trial.test",
]


# Of a repository as a plain file server shows it (git's dumb protocol).
FILES = {"/open.git/info/refs": f"{'1' * 40}\trefs/heads/main\n", "/open.git/HEAD": "ref: refs/heads/main\n"}


def third_party(environ, start_response):
    """A service that is not AWS: every path answers, a repository's files by what they are."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [FILES.get(environ["PATH_INFO"], "went").encode()]


class Moto:
    """moto's server in threads of this process, behind TLS 1.2 and up. `arrivals` lists each request it was handed,
    `calls` what a trail of AWS's own would tell of each (`trail.py`)."""

    def __init__(self, certificate, key):
        from moto.core.config import default_user_config
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        default_user_config["lambda"]["use_docker"] = False
        self.arrivals, self.calls, application = [], [], DomainDispatcherApplication(create_backend_app)

        def recorder(environ, start_response):
            self.arrivals.append(f"{environ['REQUEST_METHOD']} {environ['HTTP_HOST']}{environ['PATH_INFO']} {environ.get('HTTP_X_AMZ_TARGET', '')}".strip())
            if environ["HTTP_HOST"].endswith(".trial.test"):
                return third_party(environ, start_response)
            call = trail.Call(environ)
            self.calls.append(call)

            def answered(status, headers, *rest):
                call.request_id = next((v for n, v in headers if n.lower() in ("x-amzn-requestid", "x-amz-request-id")), None)
                return start_response(status, headers, *rest)

            return application(environ, answered)

        class Quiet(MotoRequestHandler):
            def log(self, *_):
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server = make_server("127.0.0.1", 0, recorder, threaded=True, request_handler=Quiet, ssl_context=context)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()


class SignIn:
    """SSO's portal, its token service and STS, as far as SDKs get their keys there. `asked` has what each call brought;
    the keys that it gives are of the account that was asked for."""

    OLD_TOKEN, TOKEN, REFRESH, SECRET = "old-sso-token", "new-sso-token", "sso-refresh-token", "issued-secret"

    def __init__(self, certificate, key):
        self.asked, origin = [], self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                status, media_type, text = origin.answer(self.headers, self.path, body)
                self.send_response(status)
                self.send_header("Content-Type", media_type)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            do_GET = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def issued(self, account):
        return lab.key_id_of(account, "ISSUED").replace("AKIA", "ASIA")

    def answer(self, headers, path, body):
        host, query = headers["Host"].split(".")[0], parse_qs(path.partition("?")[2])
        if host == "oidc" and path == "/token" and self.REFRESH in body:
            self.asked.append("CreateToken")
            return 200, "application/json", json.dumps({"accessToken": self.TOKEN, "expiresIn": 3600, "refreshToken": self.REFRESH})
        if host == "portal" and path.startswith("/federation/credentials?"):
            if headers["x-amz-sso_bearer_token"] != self.TOKEN:
                return 401, "application/json", json.dumps({"message": "Session token not found or invalid"})
            self.asked.append("GetRoleCredentials")
            account, = query["account_id"]
            return 200, "application/json", json.dumps({"roleCredentials": {
                "accessKeyId": self.issued(account), "secretAccessKey": self.SECRET, "sessionToken": "t", "expiration": 4_000_000_000_000}})
        form = {name: value for name, (value, *_) in parse_qs(body).items()}
        action = form.get("Action", "")
        signed = "Credential=" in headers.get("Authorization", "")
        if host == "sts" and (action, signed) in (("AssumeRole", True), ("AssumeRoleWithWebIdentity", False)):
            self.asked.append(action)
            account = form["RoleArn"].split(":")[4]
            return 200, "text/xml", (
                f"<{action}Response xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><{action}Result><Credentials>"
                f"<AccessKeyId>{self.issued(account)}</AccessKeyId><SecretAccessKey>{self.SECRET}</SecretAccessKey>"
                "<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials><AssumedRoleUser>"
                f"<AssumedRoleId>AROA:s</AssumedRoleId><Arn>{form['RoleArn']}/s</Arn></AssumedRoleUser></{action}Result></{action}Response>")
        self.asked.append(f"unexpected: {host} {path.partition('?')[0]} {action}")
        return 400, "text/plain", "not a call of sign-in"

    def stop(self):
        self.server.shutdown()


class Sink:
    """An S3 that reads uploads and forgets them. `received` has the body bytes, framing included, of each request."""

    def __init__(self, certificate, key):
        self.received = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer):
        try:
            with self.context.wrap_socket(peer, server_side=True) as stream:
                while self._one(stream):
                    pass
        except OSError:
            pass  # the client went away

    def _one(self, stream):
        held = b""
        while b"\r\n\r\n" not in held:
            if not (more := stream.recv(65536)):
                return False
            held += more
        head, rest = held.split(b"\r\n\r\n", 1)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if fields.get(b"expect") == b"100-continue" and not rest:
            stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            got = self._until_last_chunk(stream, rest)
        else:
            got = self._counted(stream, len(rest), int(fields[b"content-length"]))
        self.received.append(got)
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: \"0\"\r\nx-amz-request-id: SINK\r\n\r\n")
        return True

    @staticmethod
    def _counted(stream, got, length):
        buffer = bytearray(1 << 20)
        while got < length:
            n = stream.recv_into(buffer, min(len(buffer), length - got))
            if not n:
                raise OSError("closed in the body")
            got += n
        return got

    @staticmethod
    def _until_last_chunk(stream, rest):
        # The test file is all zeros: the last chunk's mark cannot stand inside it.
        got, tail, buffer = len(rest), rest[-8:], bytearray(1 << 20)
        while not tail.endswith(b"0\r\n\r\n"):
            n = stream.recv_into(buffer)
            if not n:
                raise OSError("closed in the body")
            got, tail = got + n, (tail + bytes(buffer[max(0, n - 8):n]))[-8:]
        return got

    def stop(self):
        self.listener.close()


def old_server(folder, certificate, key):
    """openssl's server that speaks TLS 1.1 at most, and its port."""
    port = lab.free_port()
    # `-www` answers requests: a proxy that accepted TLS 1.1 would see a 200.
    program = lab.Program(["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0",
                           "-cert", certificate, "-key", key, "-www"], folder / "old-server.log")
    program.wait_for("ACCEPT")
    return program, port


def old_server_speaks_tls_1_1(port):
    """The old server is a fair test only if an old client can talk to it."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
                          input=b"", capture_output=True, timeout=10)
    return b"TLSv1.1" in done.stdout
