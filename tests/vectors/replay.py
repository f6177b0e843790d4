#!/usr/bin/env python3
"""Replay recorded Kubernetes API vectors against a server and compare. README.md describes the format."""
# ruff: noqa
# mypy: ignore-errors
# The recorder's own replayer, unchanged but for these lines: it also runs by itself, see README.md.
from __future__ import annotations

import argparse
import base64
import http.client
import json
import queue
import random
import re
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

NS_IN_BYTES = b"vectorns"  # stands for the namespace inside base64 bodies; every namespace is this long
AGENT = "vectors/1.0"      # the default field manager is derived from it
RFC = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
KINDS = {
    "ns": r"[a-z0-9]{8}", "uid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "rv": r"[0-9]+", "listrv": r"[0-9]+", "time": RFC + "Z", "microtime": RFC + r"\.\d{6}Z",
    "created": RFC + "Z", "age": r"(?:(?:\d+[smhdy])+|<invalid>|<unknown>)", "hash": r"[0-9a-z]{1,16}",
    "rand": r"[0-9a-z]{5}", "token": r"[\w.=-]{20,}", "continue": r"\S+", "ip": r"[0-9a-fA-F.:]+", "any": r".*",
}
PLACEHOLDER = re.compile(r"<(%s)(?::(\d+))?>" % "|".join(KINDS))
NEVER_STORED = {"managedFields", "description"}  # absent from most vectors, so never "extra"
ONE_TO_ONE = {"uid", "rv", "hash", "rand", "token", "ip"}  # two placeholders of these never share a value


class Mismatch(Exception):
    """The first difference: where, what was recorded, what came."""

    def __init__(self, path: str, want: object, got: object) -> None:
        super().__init__(path)
        self.path, self.want, self.got = path or "/", want, got


class Bindings:
    """Placeholder -> value, consistent through one scenario."""

    def __init__(self, ns: str) -> None:
        self.values: dict[str, str] = {"ns": ns}

    def copy(self) -> "Bindings":
        other = Bindings("")
        other.values = dict(self.values)
        return other

    def bind(self, kind: str, number: str | None, value: str) -> bool:
        if number is None and kind != "ns":
            return True
        key = kind if number is None else f"{kind}:{number}"
        if key in self.values:
            return self.values[key] == value
        if kind in ONE_TO_ONE and any(v == value for k, v in self.values.items() if k.split(":")[0] == kind):
            return False
        self.values[key] = value
        return True

    def fill(self, node: object, strict: bool = True, enc=lambda s: s) -> object:
        """Put bound values where placeholders stand (requests, and keys of recorded replies)."""
        if isinstance(node, dict):
            return {self.fill(k, strict): self.fill(v, strict) for k, v in node.items()}
        if isinstance(node, list):
            return [self.fill(v, strict) for v in node]
        if not isinstance(node, str) or "<" not in node:
            return node

        def one(m: re.Match) -> str:
            key = m[1] if m[2] is None else f"{m[1]}:{m[2]}"
            if key not in self.values:
                if strict:
                    raise Mismatch("request", f"a value for <{key}> from an earlier reply", None)
                return m[0]
            return enc(self.values[key])
        return PLACEHOLDER.sub(one, node)

    def match(self, template: str, value: str) -> bool:
        """Match a recorded string, placeholders included, and bind what it captures."""
        pattern, found, at = "", [], 0
        for m in PLACEHOLDER.finditer(template):
            pattern += re.escape(template[at:m.start()]) + f"({KINDS[m[1]]})"
            found.append((m[1], m[2]))
            at = m.end()
        hit = re.fullmatch(pattern + re.escape(template[at:]), value, re.S)
        return bool(hit) and all(self.bind(k, n, v) for (k, n), v in zip(found, hit.groups()))

    def check_growth(self) -> None:
        """Recorded resourceVersions are numbered in the order of their values."""
        rvs = sorted((int(k[3:]), int(v)) for k, v in self.values.items() if k.startswith("rv:"))
        for (a, x), (b, y) in zip(rvs, rvs[1:]):
            if x >= y:
                raise Mismatch(f"resourceVersion <rv:{b}>", f"more than <rv:{a}> = {x}", y)


class Compare:
    """Recorded body against the reply: all that was recorded must be there and equal."""

    def __init__(self, step: dict, ignore: list[str], messages: bool) -> None:
        self.ignore = [self.glob(p) for p in step.get("ignore", []) + ignore]
        self.unordered = [self.glob(p) for p in step.get("unordered", []) + step.get("subset", [])]
        self.subset = [self.glob(p) for p in step.get("subset", [])]
        self.messages, self.extra = messages, []

    @staticmethod
    def glob(pointer: str) -> re.Pattern:
        return re.compile("/".join("[^/]*" if part == "*" else re.escape(part) for part in pointer.split("/")))

    def hit(self, globs: list[re.Pattern], path: str) -> bool:
        return any(g.fullmatch(path) for g in globs)

    def walk(self, want: object, got: object, binds: Bindings, path: str = "") -> None:
        if self.hit(self.ignore, path) or want is None and got is None:
            return
        if isinstance(want, dict):
            self.walk_dict(want, got, binds, path)
        elif isinstance(want, list):
            self.walk_list(want, got, binds, path)
        elif isinstance(want, str) and isinstance(got, str):
            if not self.messages and path.endswith("/message"):
                return
            if not binds.match(want, got):
                raise Mismatch(path, binds.fill(want, strict=False), got)
        elif type(want) is not type(got) or want != got:
            raise Mismatch(path, want, got)

    def walk_dict(self, want: dict, got: object, binds: Bindings, path: str) -> None:
        if not isinstance(got, dict):
            raise Mismatch(path, want, got)
        want = {binds.fill(k, False): v for k, v in want.items()}
        for key in sorted(want, key=lambda k: k == "managedFields"):
            here = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            self.walk(want[key], got.get(key), binds, here)
        for key in got.keys() - want.keys():
            here = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in NEVER_STORED and not self.hit(self.ignore, here):
                self.extra.append(here)

    def walk_list(self, want: list, got: object, binds: Bindings, path: str) -> None:
        if not isinstance(got, list):
            raise Mismatch(path, want, got)
        if path.endswith("/managedFields") or self.hit(self.unordered, path):
            return self.walk_set(want, got, binds, path)
        for i, (w, g) in enumerate(zip(want, got)):
            self.walk(w, g, binds, f"{path}/{i}")
        if len(want) != len(got):
            raise Mismatch(path, f"{len(want)} items", f"{len(got)} items")

    def walk_set(self, want: list, got: list, binds: Bindings, path: str) -> None:
        left = list(range(len(got)))
        for i, w in enumerate(want):
            first = None
            for j in left:
                trial, kept = binds.copy(), len(self.extra)
                try:
                    self.walk(w, got[j], trial, f"{path}/{i}")
                except Mismatch as why:
                    del self.extra[kept:]
                    first = deeper(first, why)
                    continue
                binds.values = trial.values
                left.remove(j)
                break
            else:
                raise first if first and len(got) == 1 else Mismatch(f"{path}/{i}", w, f"no equal item; nearest differs at {nearest(first, got)}")
        if left and not self.hit(self.subset, path):
            raise Mismatch(path, f"{len(want)} items", f"{len(got)} items")


def deeper(a: Mismatch | None, b: Mismatch) -> Mismatch:
    return b if a is None or b.path.count("/") > a.path.count("/") else a


def nearest(why: Mismatch | None, got: list) -> str:
    return f"{why.path}: expected {short(why.want)}, got {short(why.got)}" if why else f"an empty place in {short(got)}"


class Server:
    """One HTTP(S) origin and the credentials of the administrator."""

    def __init__(self, url: str, ca: str | None, cert: str | None, key: str | None, token: str | None) -> None:
        parts = urlsplit(url)
        self.tls, self.host = parts.scheme == "https", parts.hostname
        self.port = parts.port or (443 if self.tls else 80)
        self.token, self.base = token, parts.path.rstrip("/")
        self.with_cert, self.plain = self.context(ca, cert, key), self.context(ca, None, None)

    @staticmethod
    def context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
        ctx = ssl.create_default_context(cafile=ca)
        if not ca:
            ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        if cert:
            ctx.load_cert_chain(cert, key)
        return ctx

    def open(self, req: dict, binds: Bindings, timeout: float = 60) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        who, headers = req.get("as"), {"Accept": "application/json", "User-Agent": AGENT}
        headers.update(binds.fill(req.get("headers", {})))
        if who is None and self.token:
            headers["Authorization"] = "Bearer " + self.token
        elif who not in (None, "nobody"):
            headers["Authorization"] = "Bearer " + binds.fill(who)
        if self.tls:
            ctx = self.with_cert if who is None else self.plain
            conn = http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=ctx)
        else:
            conn = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        path = self.base + binds.fill(req["path"], enc=lambda s: quote(s, safe=""))
        if req.get("query"):
            path += "?" + urlencode(binds.fill(req["query"]), doseq=True)
        conn.request(req["method"], path, body_bytes(req, binds), headers)
        return conn, conn.getresponse()

    def call(self, req: dict, binds: Bindings) -> tuple[int, http.client.HTTPMessage, bytes]:
        conn, reply = self.open(req, binds)
        try:
            return reply.status, reply.headers, reply.read()
        finally:
            conn.close()


def body_bytes(req: dict, binds: Bindings) -> bytes | None:
    if "body64" in req:
        return base64.b64decode(req["body64"]).replace(NS_IN_BYTES, binds.values["ns"].encode())
    if "text" in req:
        return binds.fill(req["text"]).encode()
    if "body" in req:
        return json.dumps(binds.fill(req["body"])).encode()
    return None


class Watch:
    """A watch read by its own thread, so that the scenario's other requests go on meanwhile."""

    def __init__(self, server: Server, req: dict, binds: Bindings) -> None:
        self.conn, self.reply = server.open(req, binds, timeout=90)
        self.lines: queue.Queue = queue.Queue()
        threading.Thread(target=self.pump, daemon=True).start()

    def pump(self) -> None:
        try:
            for line in self.reply:
                if line.strip():
                    self.lines.put(json.loads(line))
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass
        self.lines.put(None)

    def next(self, deadline: float) -> dict | None:
        """The next event; None at the end of the stream; queue.Empty when time is up."""
        return self.lines.get(timeout=max(0.01, deadline - time.monotonic()))

    def close(self) -> None:
        try:
            if self.conn.sock:
                self.conn.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def at(node: object, pointer: str) -> object:
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list):
            node = node[int(part)] if part.isdigit() and int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, dict) else None
    return node


def holds(cond: dict, status: int, body: object) -> bool:
    if "status" in cond:
        return status == cond["status"]
    value = at(body, cond["path"])
    if "len" in cond:
        return len(value or []) == cond["len"]
    if "has" in cond:  # a list item or a map with at least these fields
        return any(isinstance(v, dict) and cond["has"].items() <= v.items() for v in value or [])
    if "set" in cond:
        return (value is not None) == cond["set"]
    return value == cond["is"]


class Run:
    """One scenario against one server."""

    def __init__(self, server: Server, scenario: dict, messages: bool) -> None:
        self.server, self.scenario, self.messages = server, scenario, messages
        ns = random.choice("abcdefghjkmnpqrstvwxyz") + "".join(random.choices("abcdefghjkmnpqrstvwxyz23456789", k=7))
        self.binds, self.watches, self.extra = Bindings(ns), {}, []
        self.number = 0

    def go(self) -> None:
        try:
            for step in self.scenario.get("setup", []):
                self.prepare(step)
            for self.number, step in enumerate(self.scenario["steps"], 1):
                self.step(step)
            if self.scenario.get("rv") != "any":
                self.binds.check_growth()
        finally:
            for watch in self.watches.values():
                watch.close()
            for req in self.scenario.get("cleanup", []):
                try:
                    self.server.call(req, self.binds)
                except (OSError, Mismatch, http.client.HTTPException):
                    pass

    def prepare(self, step: dict) -> None:
        end = time.monotonic() + step.get("timeout", 0)
        while True:
            status, _, raw = self.server.call(step["request"], self.binds)
            body = parse(raw)
            if all(holds(c, status, body) for c in step.get("until", [])) or time.monotonic() > end:
                return
            time.sleep(0.1)

    def step(self, step: dict) -> None:
        if "sleep" in step:
            time.sleep(step["sleep"])
        elif "watch" in step:
            self.watches[step["watch"]] = watch = Watch(self.server, step["request"], self.binds)
            if watch.reply.status != step["response"]["status"]:
                raise Mismatch("status", step["response"]["status"], watch.reply.status)
        elif "events" in step:
            self.events(step)
        elif "until" in step:
            self.poll(step)
        else:
            self.check(step, *self.server.call(step["request"], self.binds))

    def poll(self, step: dict) -> None:
        end = time.monotonic() + step.get("timeout", 20)
        while True:
            status, headers, raw = self.server.call(step["request"], self.binds)
            body = parse(raw)
            missing = [c for c in step["until"] if not holds(self.binds.fill(c), status, body)]
            if not missing:
                return self.check(step, status, headers, raw)
            if time.monotonic() > end:
                raise Mismatch("until (timed out)", missing[0], at(body, missing[0].get("path", "")) if body else status)
            time.sleep(0.15)

    def check(self, step: dict, status: int, headers: http.client.HTTPMessage, raw: bytes) -> None:
        want = step["response"]
        if want["status"] != status:
            raise Mismatch("status", want["status"], f"{status} {raw[:300].decode(errors='replace')}")
        kind = (headers.get("Content-Type") or "").replace(" ", "").lower()
        if want.get("type") and want["type"] != kind:
            raise Mismatch("content-type", want["type"], kind)
        warnings = headers.get_all("Warning") or []
        if self.messages and [self.binds.fill(w, False) for w in want.get("warnings", [])] != warnings:
            raise Mismatch("warning headers", want.get("warnings", []), warnings)
        if bool(want.get("warnings")) != bool(warnings):
            raise Mismatch("warning headers", want.get("warnings", []), warnings)
        if "text" in want:
            if not self.binds.match(want["text"], raw.decode(errors="replace")):
                raise Mismatch("text", want["text"], raw.decode(errors="replace")[:300])
        elif "body" in want:
            self.compare(step, want["body"], parse(raw))

    def compare(self, step: dict, want: object, got: object, path: str = "") -> None:
        rule = Compare(step, self.scenario.get("ignore", []), self.messages)
        try:
            rule.walk(want, got, self.binds)
        except Mismatch as why:
            raise Mismatch(path + why.path, why.want, why.got) from None
        if not step.get("partial"):
            self.extra += [f"step {self.number} {path}{p}" for p in rule.extra]

    def events(self, step: dict) -> None:
        watch, want = self.watches[step["events"]], step["expect"]
        marks = any(e["type"] == "BOOKMARK" for e in want)
        end = time.monotonic() + step.get("timeout", 15)
        for i, event in enumerate(want):
            got = self.next_event(watch, end, marks)
            if got is None:
                raise Mismatch(f"event {i}", event["type"], "no event in time")
            self.compare(step, event, got, f"event {i} ")
        if step.get("ends"):
            if self.next_event(watch, end, False) is not None:
                raise Mismatch("events", "end of the stream", "another event")
        elif step.get("quiet"):
            more = self.next_event(watch, time.monotonic() + step["quiet"], False)
            if more is not None:
                raise Mismatch("events", f"none for {step['quiet']} s", more)

    @staticmethod
    def next_event(watch: Watch, end: float, marks: bool) -> dict | None:
        while True:
            try:
                event = watch.next(end)
            except queue.Empty:
                return None
            if event is None or marks or event.get("type") != "BOOKMARK":
                return event


def parse(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def load(paths: list[str]) -> list[dict]:
    out = []
    for name in paths:
        path = Path(name)
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            doc = json.loads(file.read_text())
            out += [dict(s, theme=doc["theme"]) for s in doc.get("scenarios", [])]
    return out


def short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 700 else text[:700] + "…"


def one(server: Server, scenario: dict, args: argparse.Namespace) -> dict:
    run, began = Run(server, scenario, not args.no_messages), time.monotonic()
    name = f"{scenario['theme']}: {scenario['name']}"
    result = {"name": name, "ok": True}
    try:
        run.go()
        if args.strict and run.extra:
            raise Mismatch("extra fields", [], run.extra[:10])
    except Mismatch as why:
        result.update(ok=False, step=run.number, path=why.path, expected=why.want, got=why.got)
    except (OSError, http.client.HTTPException, ValueError) as why:
        result.update(ok=False, step=run.number, path="transport", expected=None, got=repr(why))
    result.update(extra=run.extra, seconds=round(time.monotonic() - began, 2))
    tail = f"  (extra: {len(run.extra)}, first {run.extra[0]})" if run.extra else ""
    if result["ok"]:
        print(f"ok    {name}{tail}", flush=True)
    else:
        print(f"FAIL  {name}  step {run.number} {result['path']}: expected {short(result['expected'])}, got {short(result['got'])}{tail}", flush=True)
    return result


def main() -> int:
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--server", required=True, help="https://host:port")
    ap.add_argument("--ca", help="CA file; without it the certificate is not verified")
    ap.add_argument("--cert"), ap.add_argument("--key")
    ap.add_argument("--token", help="a file with the administrator's bearer token")
    ap.add_argument("--only", help="regular expression on 'theme: name'")
    ap.add_argument("--without", default="", help="comma list of needs to skip, such as controllers,scheduler")
    ap.add_argument("--no-messages", action="store_true", help="do not compare message texts and warning texts")
    ap.add_argument("--strict", action="store_true", help="fields that were not recorded fail the scenario")
    ap.add_argument("--json", help="write the results to this file")
    ap.add_argument("paths", nargs="+")
    args = ap.parse_args()
    token = Path(args.token).read_text().strip() if args.token else None
    server = Server(args.server, args.ca, args.cert, args.key, token)
    skip = set(filter(None, args.without.split(",")))
    todo = [s for s in load(args.paths) if not skip & set(s.get("needs", []))
            and (not args.only or re.search(args.only, f"{s['theme']}: {s['name']}"))]
    results = [one(server, s, args) for s in todo]
    failed = sum(not r["ok"] for r in results)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
