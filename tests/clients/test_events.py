"""Streams of signed events, as AWS's SDKs for Go and JavaScript sign them: each message goes on once its signature holds, one
that was changed on its way ends the stream."""

import base64
import json
import ssl
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import matrix
from test_streams import BEDROCK, aws_event
from under import UnderExec

POLICY = """
version: 1
statements:
  - {id: talk, effect: allow, action: "bedrock:InvokeModel*", resource: "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-sonic-v1:0"}
"""


class Model(BaseHTTPRequestHandler):
    """Says every word back as soon as it is there. `streams`: of each request its head's fields, the bytes of its body,
    its words, and whether it ended."""

    protocol_version = "HTTP/1.1"
    streams = []

    def do_POST(self):
        stream = {"path": self.path, "fields": self.headers.items(), "body": b"", "words": [], "ended": False}
        self.streams.append(stream)
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        held = b""
        while piece := self.piece():
            stream["body"] += piece
            held += piece
            while len(held) >= 4 and len(held) >= (length := struct.unpack(">I", held[:4])[0]):
                signed, held = payload(held[:length]), held[length:]
                if signed:
                    word = base64.b64decode(json.loads(payload(signed))["bytes"])
                    stream["words"].append(word)
                    self.say(aws_event("chunk", json.dumps({"bytes": base64.b64encode(word).decode()}).encode(), "application/json"))
        stream["ended"] = True
        self.say(b"")

    def piece(self):
        """The next of HTTP's chunks; empty at the body's end. An error where it breaks off."""
        size = int(self.rfile.readline(), 16)
        piece = self.rfile.read(size)
        if len(piece) != size or self.rfile.readline() != b"\r\n":
            raise ConnectionError("broken off")
        return piece

    def say(self, piece):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.flush()

    def log_message(self, *_):
        pass


def payload(message):
    """What a message of the event stream encoding carries."""
    headers = struct.unpack(">I", message[4:8])[0]
    return message[12 + headers:-4]


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *_):
        pass  # a stream that was broken off


def model(certificate, key):
    """The server, in a thread."""
    Model.streams.clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Quiet(("127.0.0.1", 0), Model)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def flags(folder, server):
    """Of an exeat that leads there."""
    policy = folder / "events.yaml"
    policy.write_text(POLICY)
    return "--policy", policy, "--connect-to", f"{BEDROCK}:443=127.0.0.1:{server.server_port}"


class Events(UnderExec):
    def setUp(self):
        server = model(self.world.folder / "origin.pem", self.world.folder / "origin.key")
        self.addCleanup(server.shutdown)
        self.flags = flags(self.world.folder, server)

    def events_by(self, *program, alpn):
        done, events = self.run_it(*program, "events", "good", flags=self.flags)
        self.assertEqual((done.returncode, done.stdout.split()), (0, ["heard", "first", "heard", "second", "heard", "third", "went"]), done)
        event, = [event for event in events if "signature" in event.ours]
        self.verified(event, arn="arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-sonic-v1:0")
        self.assertEqual((event.call, event.ours["payloadOutcome"], event.ours["status"]),
                         ("bedrock:InvokeModelWithBidirectionalStream", "matched", 200), event)
        self.assertEqual(event.ours["clientTls"].get("alpn"), alpn, event)
        stream, = Model.streams
        self.assertEqual((stream["words"], stream["ended"]), ([b"first", b"second", b"third"], True))
        self.assertEqual(dict(stream["fields"])["x-amz-content-sha256"], "STREAMING-AWS4-HMAC-SHA256-EVENTS")

        Model.streams.clear()
        done, events = self.run_it(*program, "events", "forged", flags=self.flags)
        self.assertEqual((done.returncode, done.stdout.split()[:2]), (1, ["heard", "first"]), done)
        self.assertNotIn("second", done.stdout)
        for event in (event for event in events if "signature" in event.ours):
            self.assertEqual((event.ours["signature"], event.ours["payloadOutcome"], event.ours["reason"]),
                             ("verified", "mismatched", "sigv4.payload"), event)
        self.assertTrue(Model.streams)
        for stream in Model.streams:
            self.assertEqual((stream["words"], stream["ended"]), ([b"first"], False))

    def test_go(self):
        self.events_by(*matrix.GO, alpn="h2")

    def test_javascript(self):
        self.events_by(*matrix.NODE, alpn=None)
