"""Full duplex with real peers: gRPC in its four kinds, WebSocket, server-sent events, AWS event streams.

These origins are no AWS, or are AWS where moto has no stream, so they stand apart from the rest of the world, before an
exeat of their own.
"""

import binascii
import os
import queue
import ssl
import struct
import subprocess
import tempfile
import threading
import unittest
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import grpc
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server
from botocore.config import Config

import audit
import lab
import world

POLICY = """
version: 1
statements:
  - {id: echo, effect: allow, http: {host: grpc.trial.test, path: "/trial.Echo/*"}}
  - {id: chat, effect: allow, http: {host: ws.trial.test, path: /chat}}
  - {id: news, effect: allow, http: {host: sse.trial.test, path: /news}}
  - {id: news-2, effect: allow, alpn: h2, http: {host: sse2.trial.test, path: /news}}
  - {id: invoke, effect: allow, action: "lambda:*", resource: "arn:aws:lambda:us-east-1:self:function:trial"}
  - {id: converse, effect: allow, action: "bedrock:*", resource: "*"}
"""
LAMBDA, BEDROCK = "lambda.us-east-1.amazonaws.com", "bedrock-runtime.us-east-1.amazonaws.com"
NAMES = ["grpc.trial.test", "ws.trial.test", "sse.trial.test", "sse2.trial.test", LAMBDA, BEDROCK]
WAIT = 20


def grpc_server(certificate, key):
    """Echoes bytes in each of the four kinds."""
    kinds = {
        "Unary": grpc.unary_unary_rpc_method_handler(lambda one, _: one),
        "Split": grpc.unary_stream_rpc_method_handler(lambda one, _: (bytes([b]) for b in one)),
        "Join": grpc.stream_unary_rpc_method_handler(lambda all, _: b"".join(all)),
        "Talk": grpc.stream_stream_rpc_method_handler(lambda all, _: (one.upper() for one in all)),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8))
    for service in ("trial.Echo", "trial.Secret"):
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, kinds)])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())]))
    server.start()
    return server, port


def event(payload, **headers):
    """One message of AWS's event stream encoding."""
    fields = b"".join(bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
                      for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(fields) + len(payload), len(fields))
    prelude += struct.pack(">I", binascii.crc32(prelude))
    message = prelude + fields + payload
    return message + struct.pack(">I", binascii.crc32(message))


def aws_event(kind, payload, media_type="application/octet-stream"):
    return event(payload, **{":message-type": "event", ":event-type": kind, ":content-type": media_type})


class Streams(BaseHTTPRequestHandler):
    """Answers in pieces; a piece goes only after the client has had the one before, which `turn` tells."""

    protocol_version = "HTTP/1.1"
    turn = threading.Semaphore(0)

    def pieces(self, media_type, pieces):
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at, piece in enumerate(pieces):
            if at and not self.turn.acquire(timeout=WAIT):
                return
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def do_GET(self):
        self.pieces("text/event-stream", [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"])

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Host"] == LAMBDA:
            pieces = [aws_event("PayloadChunk", b"one"), aws_event("PayloadChunk", b"two"), aws_event("InvokeComplete", b"{}", "application/json")]
        else:
            pieces = [aws_event("chunk", b'{"bytes": "%s"}' % word, "application/json") for word in (b"b25l", b"dHdv")]
        self.pieces("application/vnd.amazon.eventstream", pieces)

    def log_message(self, *_):
        pass


class Trial(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.running = []
        cls.addClassCleanup(lambda: [stop() for stop in reversed(cls.running)])
        folder = cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory(prefix="exeat-streams-")))
        authority = lab.Authority(folder, "origin-ca")
        certificate, key = authority.issue("origin", NAMES)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)

        server, grpc_port = grpc_server(certificate, key)
        cls.running.append(lambda: server.stop(0).wait())
        chat = websockets.sync.server.serve(lambda ws: [ws.send(said.upper()) for said in ws], "127.0.0.1", 0, ssl=context)
        threading.Thread(target=chat.serve_forever, daemon=True).start()
        cls.running.append(chat.shutdown)
        streams = ThreadingHTTPServer(("127.0.0.1", 0), Streams)
        streams.socket = context.wrap_socket(streams.socket, server_side=True)
        threading.Thread(target=streams.serve_forever, daemon=True).start()
        cls.running.append(streams.shutdown)

        (folder / "policy.yaml").write_text(POLICY)
        cls.audit = audit.Audit(folder / "audit.jsonl")
        cls.ca = folder / "exeat-ca.pem"
        exeat = lab.Program(lab.exeat_command(
            world.WORLD.program, folder, policy=folder / "policy.yaml", audit=cls.audit.path, upstream_ca=authority.certificate,
            credentials=lab.credentials_file(folder / "credentials", trial=(world.KEY, world.SECRET)),
            connect_to=[f"grpc.trial.test:443=127.0.0.1:{grpc_port}", f"ws.trial.test:443=127.0.0.1:{chat.socket.getsockname()[1]}",
                        f"*:443=127.0.0.1:{streams.server_port}"]), folder / "exeat.log", world.clean_environment())
        cls.running.append(exeat.stop)
        cls.proxy = f"http://127.0.0.1:{exeat.listening()}"

    def setUp(self):
        self.mark = self.audit.mark()

    def recorded(self, status=200, reason=None, alpn=None):
        """One event, and with it the protocols of both legs."""
        intents, events = self.audit.settled(self.mark)
        self.assertEqual(len(events), 1, events)
        ours = events[0].ours
        self.assertEqual((ours["status"], ours.get("reason")), (status, reason), events[0])
        self.assertEqual(len(intents), 0 if reason else 1)
        if alpn:
            self.assertEqual((ours["clientTls"].get("alpn"), ours["upstream"]["tls"].get("alpn")), alpn, events[0])
        return ours


class Grpc(Trial):
    def channel(self):
        # The library reads its proxy from the environment.
        before = os.environ.get("grpc_proxy")
        os.environ["grpc_proxy"] = self.proxy
        self.addCleanup(lambda: os.environ.pop("grpc_proxy") if before is None else os.environ.update(grpc_proxy=before))
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes())
        return self.enterContext(grpc.secure_channel("grpc.trial.test:443", credentials))

    def test_one_in_one_out(self):
        call = self.channel().unary_unary("/trial.Echo/Unary")
        self.assertEqual(call(b"x" * 300_000, timeout=WAIT), b"x" * 300_000)
        ours = self.recorded(alpn=("h2", "h2"))
        self.assertEqual((ours["bytesIn"], ours["bytesOut"]), (300_005, 300_005))

    def test_one_in_many_out(self):
        call = self.channel().unary_stream("/trial.Echo/Split")
        self.assertEqual(list(call(b"abc", timeout=WAIT)), [b"a", b"b", b"c"])
        self.recorded(alpn=("h2", "h2"))

    def test_many_in_one_out(self):
        call = self.channel().stream_unary("/trial.Echo/Join")
        self.assertEqual(call(iter([b"a", b"b" * 100_000, b"c"]), timeout=WAIT), b"a" + b"b" * 100_000 + b"c")
        self.recorded(alpn=("h2", "h2"))

    def test_both_ways_at_once(self):
        said = queue.Queue()
        answers = self.channel().stream_stream("/trial.Echo/Talk")(iter(said.get, None), timeout=WAIT)
        for word in (b"one", b"two", b"three"):
            said.put(word)
            self.assertEqual(next(answers), word.upper())
        said.put(None)
        self.assertEqual(list(answers), [])
        self.recorded(alpn=("h2", "h2"))

    def test_a_call_that_is_cancelled_ends_and_is_recorded(self):
        said = queue.Queue()
        answers = self.channel().stream_stream("/trial.Echo/Talk")(iter(said.get, None), timeout=WAIT)
        said.put(b"one")
        self.assertEqual(next(answers), b"ONE")
        answers.cancel()
        said.put(None)
        _, events = self.audit.settled(self.mark)
        self.assertEqual([event.ours["reason"] for event in events], ["request.aborted"])

    def test_what_no_statement_names_is_permission_denied_in_every_kind(self):
        channel = self.channel()
        calls = [
            lambda: channel.unary_unary("/trial.Secret/Unary")(b"x", timeout=WAIT),
            lambda: list(channel.unary_stream("/trial.Secret/Split")(b"x", timeout=WAIT)),
            lambda: channel.stream_unary("/trial.Secret/Join")(iter([b"x"]), timeout=WAIT),
            lambda: list(channel.stream_stream("/trial.Secret/Talk")(iter([b"x"]), timeout=WAIT)),
        ]
        for call in calls:
            self.mark = self.audit.mark()
            with self.assertRaises(grpc.RpcError) as raised:
                call()
            self.assertEqual(raised.exception.code(), grpc.StatusCode.PERMISSION_DENIED)
            self.assertIn("[policy.no_match]", raised.exception.details())
            self.recorded(200, "policy.no_match")


class WebSocket(Trial):
    def connect(self, path):
        trusting = ssl.create_default_context(cafile=self.ca)
        return websockets.sync.client.connect(f"wss://ws.trial.test{path}", ssl=trusting, proxy=self.proxy, compression=None, open_timeout=WAIT)

    def test_messages_pass_both_ways(self):
        with self.connect("/chat") as socket:
            for word in ("one", "two", "three" * 50_000):
                socket.send(word)
                self.assertEqual(socket.recv(timeout=WAIT), word.upper())
            socket.ping().wait(WAIT)
        ours = self.recorded(101)
        self.assertGreater(ours["bytesIn"], 250_000)
        self.assertGreater(ours["bytesOut"], 250_000)

    def test_what_no_statement_names_is_refused(self):
        with self.assertRaises(websockets.exceptions.InvalidStatus) as raised:
            self.connect("/other")
        self.assertEqual(raised.exception.response.status_code, 403)
        self.recorded(403, "policy.no_match")


class Events(Trial):
    def news(self, host, *options):
        """curl prints each event as it comes: the next is sent only once this one was read."""
        command = ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", str(WAIT), "--proxy", self.proxy, "--cacert", self.ca,
                   *options, f"https://{host}/news"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as curl:
            for word in (b"one", b"two", b"three"):
                self.assertEqual(curl.stdout.readline(), b"data: " + word + b"\n", curl.poll() is not None and curl.stderr.read())
                self.assertEqual(curl.stdout.readline(), b"\n")
                if word != b"three":
                    Streams.turn.release()
            self.assertEqual((curl.stdout.read(), curl.wait()), (b"", 0))

    def test_server_sent_events_come_one_by_one(self):
        self.news("sse.trial.test", "--http1.1")
        self.recorded(alpn=("http/1.1", None))

    def test_server_sent_events_come_one_by_one_over_http_2(self):
        self.news("sse2.trial.test", "--http2")
        self.recorded(alpn=("h2", None))

    def aws(self, service):
        return boto3.Session().client(service, config=Config(proxies={"https": self.proxy}, retries={"total_max_attempts": 1}), verify=str(self.ca))

    def test_a_lambda_function_streams_its_answer(self):
        stream = self.aws("lambda").invoke_with_response_stream(FunctionName="trial", Payload=b"{}")["EventStream"]
        heard = []
        for one in stream:
            heard.append(next(iter(one)))
            if "InvokeComplete" not in one:
                Streams.turn.release()
        self.assertEqual(heard, ["PayloadChunk", "PayloadChunk", "InvokeComplete"])
        self.recorded()

    def test_a_model_streams_its_answer(self):
        stream = self.aws("bedrock-runtime").invoke_model_with_response_stream(modelId="trial.model", body=b"{}")["body"]
        heard = []
        for one in stream:
            heard.append(one["chunk"]["bytes"])
            if len(heard) == 1:
                Streams.turn.release()
        self.assertEqual(heard, [b"one", b"two"])
        self.recorded()


del Trial  # only what is made of it is a trial
