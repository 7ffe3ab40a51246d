"""The table of clients: what each runs, what of its environment is taken away, what exeat must then name. One row each."""

import sys
from dataclasses import dataclass
from pathlib import Path

import lab

PROGRAMS, TARGET = Path(__file__).parent / "programs", lab.ROOT / "target"
OPEN, SHUT = "https://api.trial.test/open", "https://api.trial.test/shut"
PYTHON, NODE, GO = (sys.executable, PROGRAMS / "client.py"), ("node", PROGRAMS / "client.js"), (TARGET / "clients-go" / "client",)
CLASSES = f"{TARGET / 'clients-java' / 'classes'}:{TARGET / 'clients-java' / 'lib'}/*"
JAVA = ("java", "-cp", CLASSES, "Client")


@dataclass
class Client:
    name: str
    allowed: tuple
    denied: tuple
    #: Taken away for the third trial: the variables by which it finds our CA.
    trust: tuple
    #: What our record then says to set.
    named: str
    #: The program that our summary must name.
    calls_itself: str
    #: A call that it signs; else a plain request.
    signs: bool = True


def client(name, command, *, trust, named=None, signs=True, allowed=None, denied=None, calls_itself=None):
    allowed, denied = allowed or (("allowed",) if signs else (OPEN,)), denied or (("denied",) if signs else (SHUT,))
    calls_itself = calls_itself or Path(command[0]).name
    return Client(name, (*command, *allowed), (*command, *denied), trust, named or trust[0], calls_itself, signs)


# Debian's own version of a client is what a user has; the others are pinned in requirements.txt, package.json, go.mod, pom.xml.


BOTO = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
TABLES = {"allowed": ("dynamodb", "list-tables"), "denied": ("dynamodb", "delete-table", "--table-name", "others"),
          "calls_itself": "python"}
JVM = {"trust": ("JAVA_TOOL_OPTIONS",), "named": "-Djavax.net.ssl.trustStore"}
NODE_CA = {"trust": ("NODE_EXTRA_CA_CERTS",)}
CLIENTS = [
    client("boto3", (*PYTHON, "boto3"), trust=BOTO),
    client("requests", (*PYTHON, "requests"), trust=("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), signs=False),
    client("httpx", (*PYTHON, "httpx"), trust=("SSL_CERT_FILE",), signs=False),
    client("aiohttp (`trust_env=True`)", (*PYTHON, "aiohttp"), trust=("SSL_CERT_FILE",), signs=False),
    client("AWS CLI v1", (Path(sys.executable).parent / "aws",), trust=BOTO, **TABLES),
    client("AWS CLI v2 (Debian)", ("/usr/bin/aws",), trust=BOTO, **TABLES),
    client("AWS SDK for JavaScript v3", (*NODE, "sdk"), **NODE_CA),
    client("Node `fetch`", (*NODE, "fetch"), signs=False, **NODE_CA),
    client("axios", (*NODE, "axios"), signs=False, **NODE_CA),
    client("axios 1.7", (*NODE, "older-axios"), signs=False, **NODE_CA),
    client("AWS SDK for Go v2", (*GO, "sdk"), trust=("AWS_CA_BUNDLE", "SSL_CERT_FILE"), named="SSL_CERT_FILE", calls_itself="client|go-http"),
    client("Go `net/http`", (*GO, "net/http"), trust=("SSL_CERT_FILE",), signs=False, calls_itself="client|go-http"),
    client("AWS SDK for Java v2, Apache", (*JAVA, "apache"), **JVM),
    client("AWS SDK for Java v2, URLConnection", (*JAVA, "url-connection"), **JVM),
    client("curl", ("curl", "-sS"), trust=("CURL_CA_BUNDLE", "SSL_CERT_FILE"), signs=False),
    client("git", ("git", "ls-remote"), trust=("GIT_SSL_CAINFO",), signs=False,
           allowed=("https://git.trial.test/open.git",), denied=("https://git.trial.test/shut.git",)),
]
