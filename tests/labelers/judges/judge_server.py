"""An OpenAI-compatible chat server on loopback, which the tests tell how to (mis)behave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]
Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]
"""HTTP status, a body (an object to be sent as JSON, or raw bytes), and perhaps further headers."""


def completion(text: str | None, logprobs: dict[str, float] | None = None, finish: str = "stop") -> Request:
    """Return the body of a chat completion, as servers send it."""
    top = [{"token": token, "logprob": value, "bytes": None} for token, value in (logprobs or {}).items()]
    content = [{**top[0], "top_logprobs": top}] if top else None
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": {"content": content} if content else None,
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11},
    }


@dataclass
class JudgeServer:
    """What arrived, and the address to send it to."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    most_at_once: int = 0


@contextmanager
def serve(answer: Callable[[Request, int], Answer]) -> Iterator[JudgeServer]:
    """Run a server whose answer to the k-th request (from 0) is ``answer(request, k)``."""
    state = JudgeServer()
    lock = threading.Lock()
    running = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal running
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(state.requests)
                state.requests.append(request)
                state.authorizations.append(self.headers.get("Authorization", ""))
                running += 1
                state.most_at_once = max(state.most_at_once, running)
            status, body, *headers = answer(request, number)
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            with lock:
                running -= 1
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in (headers[0] if headers else {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                pass  # the client stopped waiting

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
