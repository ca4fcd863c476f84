"""A hub on loopback that speaks what huggingface_hub asks of the real one, and fails on demand.

Dataset repositories with commits, tags, LFS uploads and range requests; no accounts, no Xet. A private one wants the
token of the tests. As on the real hub files are redirected: large ones to another server, which refuses tokens since
they are not for it, by addresses that are signed and expire.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"  # noqa: S105 - of no real account
STORAGE = "localhost"  # the hub itself is 127.0.0.1

# Given a request's path and how often it came before: a fault, or None. Faults: a status ("429", "500"), "cut" (the
# connection breaks half way), "wrong" (other bytes of the same length).
Faults = Callable[[str, int], str | None]


class FakeHub:
    """The state of the hub. ``url`` is for HF_ENDPOINT."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, dict[str, bytes]]] = {}  # repository → commit or tag → path → content
        self.objects: dict[str, bytes] = {}
        self.requests: Counter[str] = Counter()
        self.stored: Counter[str] = Counter()  # object → how often it arrived whole
        self.faults: Faults = lambda path, before: None
        self.private = False
        self.signature = "1"  # that addresses of large files must have; a new one ends the old ones
        self.lock = threading.Lock()
        hub = self

        class Handler(_Handler):
            state = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def content(self) -> dict[str, Any]:
        """What it holds and what was requested, to be given to another hub."""
        return {name: vars(self)[name] for name in ("repositories", "objects", "requests", "stored")}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def commit(self, repository: str, files: Mapping[str, bytes | None]) -> str:
        """A new commit on main, with files that are written, or deleted (None); returns its id."""
        revisions = self.repositories[repository]
        content = {path: data for path, data in (revisions["main"] | files).items() if data is not None}
        told = repr(sorted(content)).encode() + str(len(revisions)).encode()
        sha = hashlib.sha1(told, usedforsecurity=False).hexdigest()  # a commit's id looks like git's
        revisions[sha] = revisions["main"] = content
        return sha

    def sha(self, repository: str, revision: str) -> str | None:
        revisions = self.repositories.get(repository, {})
        found = revisions.get(revision)
        return next((name for name, files in revisions.items() if files is found and len(name) == 40), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FakeHub

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.state, unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization")
        if self.headers["Host"].startswith(STORAGE):
            if token or urlsplit(self.path).query != f"signature={hub.signature}":
                return self.answer({}, 400 if token else 403)
            return self.send_range(hub.objects[path.removeprefix("/")])
        if hub.private and token != f"Bearer {TOKEN}":
            return self.answer({"error": "Invalid username or password."}, 401)
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/refs", path):
            tags = [name for name in hub.repositories[found[1]] if name.startswith("v")]
            refs = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": hub.sha(found[1], t)} for t in tags]
            return self.answer({"branches": [], "converts": [], "tags": refs})
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tree/main", path):
            files = hub.repositories[found[1]]["main"]
            return self.answer([{"type": "file", "path": p, "size": len(c), "oid": "0"} for p, c in files.items()])
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            sha = hub.sha(found[1], found[2] or "main")
            body = {"id": found[1], "sha": sha, "private": False, "downloads": 0, "likes": 0, "tags": []}
            return self.fault(path) or (self.answer(body) if sha else self.answer({"error": "not found"}, 404))
        if found := re.fullmatch(r"(/api/resolve-cache)?/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            content = hub.repositories.get(found[2], {}).get(found[3], {}).get(found[4])
            if content is None:
                return self.answer({"error": "not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return self.send_range(content) if found[1] else self.send_file(path, content)
        return self.answer({"error": path}, 404)

    def do_POST(self) -> None:
        hub, path, body = self.state, unquote(urlsplit(self.path).path), self.body()
        if not path.endswith("/validate-yaml") and self.fault(path):
            return None
        if path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request.get('organization') or request.get('owner')}/{request['name'].rpartition('/')[2]}"
            hub.repositories.setdefault(name, {"main": {}})
            if len(hub.repositories[name]) == 1:
                hub.commit(name, {})
            return self.answer({"url": f"{hub.url}/datasets/{name}", "name": name, "id": name})
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/preupload/main", path):
            files = [
                {"path": f["path"], "uploadMode": "lfs" if f["size"] > 2000 else "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        if path.endswith("/info/lfs/objects/batch"):
            return self.lfs_batch(json.loads(body))
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/commit/main", path):
            with hub.lock:
                sha = hub.commit(found[1], self.committed(body))
            url = f"{hub.url}/datasets/{found[1]}/commit/{sha}"
            return self.answer({"commitUrl": url, "commitOid": sha, "success": True})
        if found := re.fullmatch(r"/api/datasets/([^/]+/[^/]+)/tag/main", path):
            revisions = hub.repositories[found[1]]
            revisions[json.loads(body)["tag"]] = revisions["main"]
            return self.answer({})
        return self.answer({"error": path}, 404)

    def do_PUT(self) -> None:
        oid, body = self.path.rpartition("/")[2], self.body()
        if self.fault(self.path):
            return
        assert hashlib.sha256(body).hexdigest() == oid
        self.state.objects[oid] = body
        self.state.stored[oid] += 1
        self.answer({})

    def lfs_batch(self, request: dict[str, Any]) -> None:
        objects = []
        for each in request["objects"]:
            upload = {"upload": {"href": f"{self.state.url}/upload/{each['oid']}"}}
            objects.append(each | ({} if each["oid"] in self.state.objects else {"actions": upload}))
        self.answer({"transfer": "basic", "objects": objects})

    def committed(self, body: bytes) -> dict[str, bytes | None]:
        files: dict[str, bytes | None] = {}
        for line in body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "deletedFile":
                files[value["path"]] = None
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.state.objects[value["oid"]]
        return files

    def send_file(self, path: str, content: bytes) -> None:
        fault = self.next_fault(path)
        if fault and fault.isdigit():
            return self.answer({"error": fault}, int(fault))
        if fault:
            return self.send_range(content, fault)
        oid, port = hashlib.sha256(content).hexdigest(), self.server.server_address[1]
        if oid in self.state.objects:
            signature = self.state.signature
            return self.redirect(302, f"http://{STORAGE}:{port}/{oid}?signature={signature}", len(content))
        return self.redirect(307, f"/api/resolve-cache{path}", len(content))

    def redirect(self, status: int, location: str, size: int) -> None:
        self.send_response(status)
        self.send_header("Location", location)
        self.send_header("X-Linked-Size", str(size))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_range(self, content: bytes, fault: str | None = None) -> None:
        start, end, status = 0, len(content), 200
        if found := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            status = 206
            start = int(found[1]) if found[1] else max(0, len(content) - int(found[2]))
            end = min(len(content), int(found[2]) + 1) if found[1] and found[2] else len(content)
        part = content[start:end]
        if fault == "wrong":
            part = bytes(255 - byte for byte in part[:10]) + part[10:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "cut":
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
            self.connection.shutdown(2)
        else:
            self.wfile.write(part)

    def next_fault(self, path: str) -> str | None:
        with self.state.lock:
            before = self.state.requests[path]
            self.state.requests[path] += 1
        return self.state.faults(path, before)

    def fault(self, path: str) -> bool:
        fault = self.next_fault(path)
        if fault == "cut":
            self.close_connection = True
            self.connection.shutdown(2)
        elif fault:
            self.answer({"error": fault}, int(fault))
        return bool(fault)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in ({"Retry-After": "0"} if status == 429 else headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
