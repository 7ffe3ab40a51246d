"""The other side of TLS, made to order: certificates good and bad, servers that show them, hellos cut up."""

import datetime
import socket
import ssl
import subprocess
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import lab

DAY = datetime.timedelta(days=1)
MINUTE = datetime.timedelta(minutes=1)


def now():
    return datetime.datetime.now(datetime.timezone.utc)


class Issued:
    """A certificate with its key; `chain` is what a server sends."""

    def __init__(self, certificate, key, above=()):
        self.certificate, self.key = certificate, key
        self.chain = [certificate, *above]

    def files(self, folder, name):
        """Paths of the chain and the key, in PEM."""
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in self.chain))
        key.touch(mode=0o600)
        key.write_bytes(self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        return chain, key


def named(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def issue(name, issuer=None, *, san=True, ca=False, start=-DAY, end=DAY, purpose=ExtendedKeyUsageOID.SERVER_AUTH, key=None):
    """A certificate for `name` (or for another, as `san` says), signed by `issuer` or by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = named(name)
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number()).not_valid_before(now() + start).not_valid_after(now() + end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True))
    if san:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name if san is True else san)]), critical=False)
    if ca:
        usage = dict.fromkeys(["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
                               "encipher_only", "decipher_only"], False)
        made = made.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
    else:
        made = made.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    certificate = made.sign(issuer.key if issuer else key, hashes.SHA256())
    return Issued(certificate, key, issuer.chain if issuer and issuer.certificate.issuer != issuer.certificate.subject else ())


def with_a_bit_flipped(issued):
    der = bytearray(issued.certificate.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return Issued(x509.load_der_x509_certificate(bytes(der)), issued.key)


def with_sha1(name, issuer, folder):
    """A certificate that is signed with SHA-1, as no current library does."""
    (_, key), (ca, ca_key) = issue(name).files(folder, "sha1"), issuer.files(folder, "sha1-ca")
    (folder / "sha1.ext").write_text(f"subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth\n")
    lab.openssl("req", "-new", "-key", key.name, "-subj", f"/CN={name}", "-out", "sha1.csr", folder=folder)
    lab.openssl("x509", "-req", "-in", "sha1.csr", "-CA", ca.name, "-CAkey", ca_key.name, "-set_serial", "1", "-sha1", "-days", "1",
                "-extfile", "sha1.ext", "-out", "sha1.pem", folder=folder)
    return Issued(x509.load_pem_x509_certificate((folder / "sha1.pem").read_bytes()),
                  serialization.load_pem_private_key(key.read_bytes(), None))


def rsa_key(bits):
    return rsa.generate_private_key(65537, bits)


def revoked(issued, issuer):
    """A revocation list that names the certificate, in PEM."""
    gone = x509.RevokedCertificateBuilder().serial_number(issued.certificate.serial_number).revocation_date(now() - MINUTE).build()
    made = (x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject).last_update(now() - MINUTE)
            .next_update(now() + DAY).add_revoked_certificate(gone).add_extension(x509.CRLNumber(1), critical=False))
    return made.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class OpenSsl:
    """`openssl s_server`, which answers each GET with a page and ends the connection."""

    def __init__(self, issued, folder, name, *options):
        certificate, key = issued.files(folder, name)
        self.port = lab.free_port()
        self.program = lab.Program(["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-www", "-cert", certificate, "-cert_chain", certificate,
                                    "-key", key, *(options or ["-cipher", "ALL:@SECLEVEL=0"])], folder / f"{name}.log")
        lab.wait_for_port(self.port, self.program)

    def stop(self):
        self.program.stop()


class Renegotiating:
    """`openssl s_server` that answers a request by asking for another handshake (TLS 1.2), and does nothing more before it has one."""

    def __init__(self, issued, folder, name):
        certificate, key = issued.files(folder, name)
        self.port = lab.free_port()
        self.process = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-cert", certificate, "-key", key, "-tls1_2"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        listening = threading.Event()
        threading.Thread(target=self._serve, args=(listening,), daemon=True).start()
        if not listening.wait(20):
            raise RuntimeError("openssl s_server does not listen")

    def _serve(self, listening):
        for line in self.process.stdout:
            if line.startswith(b"ACCEPT"):
                listening.set()
            if line.startswith(b"GET /"):
                self.process.stdin.write(b"r\n")
                self.process.stdin.flush()

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Scripted:
    """A listener whose connections are each handled by one function, until it returns."""

    def __init__(self, handle):
        self.handle, self.listener = handle, socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain):
        with plain:
            try:
                self.handle(plain)
            except OSError:
                pass

    def stop(self):
        self.listener.close()


def silent(plain):
    """Reads until the other side has enough of it."""
    while plain.recv(4096):
        pass


def plain_http(plain):
    plain.recv(4096)
    plain.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    silent(plain)


def truncating(certificate, key):
    """Answers without a length, and ends the TCP connection without a close_notify."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def handle(plain):
        with context.wrap_socket(plain, server_side=True, suppress_ragged_eofs=True) as tls:
            tls.recv(4096)
            tls.sendall(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")

    return handle


class CutUp:
    """A client's TLS whose first flight is sent as `cut` says: a list of pieces of bytes."""

    def __init__(self, plain, ca, host, cut):
        self.plain = plain
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = ssl.create_default_context(cafile=ca).wrap_bio(self.into, self.out, server_hostname=host)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        for piece in cut(self.out.read()):
            plain.sendall(piece)

    def until(self, act):
        while True:
            try:
                done = act()
                self.plain.sendall(self.out.read())
                return done
            except ssl.SSLWantReadError:
                self.plain.sendall(self.out.read())
                piece = self.plain.recv(65536)
                if not piece:
                    raise ConnectionError("the proxy closed the connection")
                self.into.write(piece)

    def ask(self, request):
        self.until(self.tls.do_handshake)
        self.until(lambda: self.tls.write(request))
        return self.until(lambda: self.tls.read(4096))


def byte_by_byte(hello):
    return [hello[at:at + 1] for at in range(len(hello))]


def in_records(hello):
    """The same handshake message, over records of 50 bytes."""
    message = hello[5:]
    pieces = [message[at:at + 50] for at in range(0, len(message), 50)]
    return [hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces]
