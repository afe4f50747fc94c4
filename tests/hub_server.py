"""A stand-in for the Hugging Face Hub on the loopback: enough of its API to make a repository and commit files."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Hub:
    """What was uploaded."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, Any]] = {}
        """kind/owner/name -> what it was made with."""
        self.files: dict[str, dict[str, bytes]] = {}
        """kind/owner/name -> path -> content."""
        self.tokens: set[str] = set()
        self.refuses = False


@contextmanager
def running_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Run a stand-in and point the Hub's client to it, with a token."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.tokens.add(self.headers.get("Authorization", ""))
            if hub.refuses:
                return self.answer(403, {"error": "you may not write here"})
            self.answer(200, answer_to(hub, self.path, body, f"http://127.0.0.1:{self.server.server_port}"))  # type: ignore[attr-defined]

        def answer(self, status: int, content: Any) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    import huggingface_hub.constants
    import huggingface_hub.hf_api

    monkeypatch.setenv("HF_TOKEN", "a-token-of-the-tests")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)  # what HF_ENDPOINT sets at import
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer_to(hub: Hub, path: str, body: bytes, address: str) -> Any:
    """Return what the Hub says to a POST."""
    if path == "/api/repos/create":
        asked = json.loads(body)
        name = f"{asked.get('type', 'model')}/{asked['organization']}/{asked['name']}"
        hub.repositories.setdefault(name, asked)
        page = name.removeprefix("model/").replace("dataset/", "datasets/")
        return {"url": f"{address}/{page}", "id": name.partition("/")[2]}
    if path == "/api/validate-yaml":
        assert json.loads(body)["content"].startswith("---\n")
        return {"errors": [], "warnings": []}
    kind, owner, name, action, *_ = path.removeprefix("/api/").split("/")
    place = f"{kind.removesuffix('s')}/{owner}/{name}"
    if action == "preupload":
        files = json.loads(body)["files"]
        return {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
    assert action == "commit", path
    for line in body.splitlines():
        entry = json.loads(line)
        if entry["key"] == "file":
            content = base64.b64decode(entry["value"]["content"])
            hub.files.setdefault(place, {})[entry["value"]["path"]] = content
    page = place.removeprefix("model/").replace("dataset/", "datasets/")
    return {"commitUrl": f"{address}/{page}/commit/{'0' * 40}", "commitOid": "0" * 40, "success": True}
