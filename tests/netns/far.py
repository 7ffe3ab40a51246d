"""What stands on the far side: TLS origins, a name server, listeners that nothing should reach. Says each thing it met.

    far.py tls:ADDRESS:PORT:CERTIFICATE:KEY | tcp:ADDRESS:PORT | dns:ADDRESS:TABLE ...

`TABLE` is JSON, {name: [address, ...]}. A line is printed for each connection (`tcp 198.18.0.10:8443 from 10.77.0.2`),
each HTTP request (`http 198.18.0.10:443`) and each name that was asked for (`dns api.test`).
"""

import ipaddress
import json
import socket
import ssl
import struct
import sys
import threading

A, AAAA = 1, 28


def say(text):
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listen(address, port):
    listener = socket.socket(family(address))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(64)
    return listener


def serve(listener, place, tls=None):
    while True:
        plain, peer = listener.accept()
        say(f"tcp {place} from {peer[0]}")
        if tls:
            threading.Thread(target=answer, args=(plain, place, tls), daemon=True).start()
        else:
            plain.close()


def answer(plain, place, tls):
    try:
        with tls.wrap_socket(plain, server_side=True) as stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                piece = stream.recv(4096)
                if not piece:
                    return
                head += piece
            say(f"http {place}")
            stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nhere")
    except OSError:
        plain.close()


def resolve(server, table):
    """Answers A and AAAA out of the table; a name that is not in it does not exist (RFC 1035 4.1)."""
    while True:
        query, peer = server.recvfrom(512)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12:at + 5]
        name, (kind,) = ".".join(labels).lower(), struct.unpack("!H", query[at + 1:at + 3])
        say(f"dns {name}")
        found = [ipaddress.ip_address(text) for text in table.get(name, [])]
        found = [ip for ip in found if kind == (A if ip.version == 4 else AAAA)]
        records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(ip.packed)) + ip.packed for ip in found)
        flags = 0x8180 if name in table else 0x8183
        server.sendto(query[:2] + struct.pack("!HHHHH", flags, 1, len(found), 0, 0) + question + records, peer)


def main():
    for word in sys.argv[1:]:
        kind, rest = word.split(":", 1)
        if kind == "dns":
            address, table = rest.split(":", 1)
            server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            server.bind((address, 53))
            target, arguments = resolve, (server, json.loads(table))
        else:
            tls = None
            if kind == "tls":
                rest, certificate, key = rest.rsplit(":", 2)
                tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                tls.load_cert_chain(certificate, key)
            address, port = rest.rsplit(":", 1)
            target, arguments = serve, (listen(address.strip("[]"), int(port)), rest, tls)
        threading.Thread(target=target, args=arguments, daemon=True).start()
    say("ready")
    threading.Event().wait()


main()
