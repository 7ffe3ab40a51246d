"""Reads exeat's audit file as it grows: CloudTrail's shape, ours under `additionalEventData.exeat`."""

import json

import lab


class Event(dict):
    """One event line: what was asked, of whom, and what became of it."""

    @property
    def ours(self):
        return self["additionalEventData"]["exeat"]

    @property
    def flow(self):
        return self.ours["flow"]

    @property
    def call(self):
        """`dynamodb:PutItem`, of CloudTrail's eventSource and eventName."""
        return f"{self['eventSource'].removesuffix('.amazonaws.com')}:{self['eventName']}"

    @property
    def key_id(self):
        return self.get("userIdentity", {}).get("accessKeyId")

    @property
    def client_tls(self):
        """The version of the client's leg."""
        return self.ours.get("clientTls", {}).get("version")

    @property
    def upstream_tls(self):
        return self.ours.get("upstream", {}).get("tls", {}).get("version")

    @property
    def arns(self):
        return [resource["ARN"] for resource in self.get("resources", [])]


class Audit:
    """The audit file. `mark()` now, `since(mark)` later: the lines between.

    `clients()` is how many exeat serves now, where it can be asked: a connection that is still served may yet have a record."""

    def __init__(self, path, clients=lambda: 0):
        self.path, self.clients = path, clients

    def mark(self, clients=0):
        """Where the file ends once all that was under way has its lines; `clients` are the caller's own connections, which ask nothing."""
        lab.until("all that is under way to be recorded", lambda: self.clients() == clients and not self.interrupted())
        return self.path.stat().st_size if self.path.exists() else 0

    def interrupted(self):
        """Flows with an intent and no event."""
        if not self.path.exists():
            return set()
        intents, events = self.since(0)
        return {intent["flow"] for intent in intents} - {event.flow for event in events}

    def since(self, mark):
        """(intents, events) written after the mark; a half-written last line is left for the next look."""
        with open(self.path, "rb") as file:
            file.seek(mark)
            text = file.read()
        lines = [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]
        intents = [line for line in lines if line.get("exeat") == "intent"]
        events = [Event(line) for line in lines if "eventVersion" in line]
        # A connection that came and went without a request and without a fault belongs to no call.
        return intents, [event for event in events if event.get("eventType") != "Connection" or "reason" in event.ours]

    def settled(self, mark, clients=0):
        """`since(mark)` once there is an event and nothing under way any more: the caller counts. `clients` as of `mark()`; None: whoever."""
        lab.until("an event, and nothing more under way",
                  lambda: self.since(mark)[1] and clients in (None, self.clients()) and not self.interrupted())
        return self.since(mark)
