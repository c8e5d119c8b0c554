"""A program in the place of llama-server that stands for a device of a fixed speed: it waits instead of computing.

It is copied into a folder of its own. Beside it lie ``rates.json`` (by model, the tokens of a prompt that it reads in
a second, and those of a reply that it writes) and ``help.txt``, the flags that it is to know.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def value(flag: str) -> str:
    """The value of a flag of this process."""
    return sys.argv[sys.argv.index(flag) + 1]


class Device(BaseHTTPRequestHandler):
    """Answers what the fleet asks, and chats after as long as the device would take."""

    protocol_version = "HTTP/1.1"
    rates = (1.0, 1.0)
    counted = [0.0] * 4
    lock = threading.Lock()

    def say(self, data: Any, kind: str = "application/json") -> None:
        """A reply with status 200."""
        body = data.encode() if isinstance(data, str) else json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Health, properties, slots and counters."""
        names = ("prompt_tokens", "prompt_seconds", "tokens_predicted", "tokens_predicted_seconds")
        pairs = zip(names, self.counted, strict=True)
        settings = {"n_ctx": int(value("--ctx-size"))}
        answers: dict[str, Any] = {
            "/health": {"status": "ok"},
            "/props": {
                "default_generation_settings": settings,
                "model_path": value("--model"),
                "total_slots": int(value("--parallel")),
                "build_info": "device",
            },
            "/metrics": "".join(f"llamacpp:{name}_total {number}\n" for name, number in pairs),
        }
        self.say(answers.get(self.path, []))

    def do_POST(self) -> None:
        """A chat, or the request of one token with which the fleet looks at an engine."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        prompt = sum(len(message["content"].split()) for message in body.get("messages", []))
        reply = body.get("max_tokens", 0)
        seconds = (prompt / self.rates[0], reply / self.rates[1])
        time.sleep(sum(seconds))
        with self.lock:
            for place, number in enumerate((prompt, seconds[0], reply, seconds[1])):
                self.counted[place] += number
        self.say({"choices": [{"message": {"role": "assistant", "content": "done"}}], "content": "done"})

    def log_message(self, *parts: object) -> None:
        """Nothing."""


def main() -> None:
    """Tell the version or the flags, or serve."""
    if "--version" in sys.argv:
        sys.stderr.write("version: 1 (device)\n")
    elif "--help" in sys.argv:
        sys.stdout.write((FOLDER / "help.txt").read_text(encoding="utf-8"))
    else:
        prompt, reply = json.loads((FOLDER / "rates.json").read_text(encoding="utf-8"))[value("--alias")]
        Device.rates = (prompt, reply)
        server = ThreadingHTTPServer((value("--host"), int(value("--port"))), Device)
        server.daemon_threads = True
        server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
