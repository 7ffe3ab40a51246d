"""The far side: moto behind TLS, a sink for large uploads, and servers that are too old. Each knows what reached it."""

import socket
import ssl
import subprocess
import threading

import lab
import trail

# Every name the clients ask for. A proxy that let a name through which is not here would fail its handshake.
AWS_HOSTS = [
    "*.amazonaws.com", "*.us-east-1.amazonaws.com", "*.s3.amazonaws.com", "*.s3.us-east-1.amazonaws.com",
    "*.ddb.us-east-1.amazonaws.com", "*.sso.us-east-1.amazonaws.com",
]


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
