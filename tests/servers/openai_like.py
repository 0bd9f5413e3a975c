"""A server with the two paths of OpenAI's interface that moonshelf uses, as a process of its own.

    python openai_like.py PORT_FILE [KEY]

It does what it is asked: a title is made of the facts in the question and the colour of the picture it is shown, an
edited picture is the picture it was sent, on the ground that the prompt names. Like real servers it can be busy: words
in the product's title make it answer 429, 500, 400, something unreadable, or nothing.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import io
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200), "grey": (128, 128, 128)}
stats: dict[str, Any] = {"calls": 0, "at_once": 0, "most_at_once": 0, "failed": {}}
lock = threading.Lock()


def colour_of(data: bytes) -> str:
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)
    h, w = pixels.shape[:2]
    middle = pixels[h // 3 : h - h // 3, w // 3 : w - w // 3].mean((0, 1))
    return min(COLOURS, key=lambda name: float(np.abs(middle - COLOURS[name]).sum()))


class Handler(BaseHTTPRequestHandler):
    key = ""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.reply(200, stats)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with lock:
            stats["calls"] += 1
            stats["at_once"] += 1
            stats["most_at_once"] = max(stats["most_at_once"], stats["at_once"])
        try:
            if self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
                self.reply(401, {"error": {"message": f"wrong key {self.headers.get('Authorization')}"}})
            elif self.path.startswith("/page"):
                self.reply(200, "a page of something else")
            elif self.path.endswith("/chat/completions"):
                self.chat(json.loads(body))
            elif self.path.endswith("/images/edits"):
                self.edit(body)
            else:
                self.reply(404, {"error": {"message": "no such path"}})
        finally:
            with lock:
                stats["at_once"] -= 1

    def chat(self, asked: dict[str, Any]) -> None:
        if asked["model"] == "tiny-judge":
            return self.judge(asked)
        if asked["model"] != "tiny-writer":
            return self.reply(404, {"error": {"message": "no such model"}})
        content = asked["messages"][1]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        facts = json.loads(next(p["text"] for p in parts if p["type"] == "text"))
        title = facts["title"]
        for word, status in (("busy", 429), ("broken", 500)):  # once each, then it works
            with lock:
                first = stats["failed"].setdefault(word, 0) == 0 and word in title
                stats["failed"][word] += first
            if first:
                return self.reply(
                    status, {"error": {"message": word}}, {"Retry-After": "0", "retry-after-ms": "10"}
                )
        if "forbidden" in title:
            return self.reply(400, {"error": {"message": "filtered"}})
        seen = [
            colour_of(base64.b64decode(p["image_url"]["url"].split(",", 1)[1]))
            for p in parts
            if p["type"] == "image_url"
        ]
        words = [title, *seen, *facts.get("attributes", {}).values()]
        answer = json.dumps({"title": " ".join(words)}, ensure_ascii=False)
        answer = f"```json\n{answer}\n```" if "fenced" in title else answer
        answer = "I cannot say" if "babble" in title else "" if "silent" in title else answer
        message = {"role": "assistant", "content": answer}
        self.reply(
            200,
            {
                "id": "1", "object": "chat.completion", "created": 0, "model": asked["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
            },
        )  # fmt: skip

    def judge(self, asked: dict[str, Any]) -> None:
        """A comparison of two creatives: the one it was told, for the colours it sees; words make it err."""
        content = asked["messages"][1]["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = next(p["text"] for p in parts if p["type"] == "text")
        if "forbidden" in text:
            return self.reply(400, {"error": {"message": "filtered"}})
        seen = [
            colour_of(base64.b64decode(p["image_url"]["url"].split(",", 1)[1]))
            for p in parts
            if p["type"] == "image_url"
        ]
        winner = text.rsplit("choose ", 1)[1][0]
        if "contrary" in text:
            winner = {"A": "B", "B": "A"}[winner]
        keys = ("queries", "title", "copy", "people", "layout", "subject", "background")
        lines = ["1. identical: no", "2. similar: no"]
        lines += [f"{i}. {key}: equal" for i, key in enumerate(keys, 3)]
        if seen:
            lines[8] = f"9. background: {winner} - A is {seen[0]}, B is {seen[1]}"
        lines.append(f"10. choice: {winner}")
        answer = "<think>\n" + "\n".join(lines) + f"\n</think>\n<answer>{winner}</answer>"
        answer = "It depends." if "babble" in text else answer
        self.reply(
            200,
            {
                "id": "1", "object": "chat.completion", "created": 0, "model": asked["model"],
                "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
            },
        )  # fmt: skip

    def edit(self, body: bytes) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        fields = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in message.iter_parts()
        }
        photo = Image.open(io.BytesIO(fields["image"])).convert("RGB")
        prompt = fields["prompt"].decode()
        if "close-up" in prompt:
            return self.reply(200, {"created": 0, "data": [{"url": "http://127.0.0.1:9/secret.png"}]})
        if "another side" in prompt:
            made = ImageOps.mirror(photo)
        else:
            ground = "white" if "white background" in prompt else "teal"
            made = ImageOps.expand(photo, 8, ground).resize((480, 480))
        out = io.BytesIO()
        made.save(out, "PNG")
        self.reply(200, {"created": 0, "data": [{"b64_json": base64.b64encode(out.getvalue()).decode()}]})

    def reply(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    Handler.key = sys.argv[2] if len(sys.argv) > 2 else ""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    part = Path(sys.argv[1] + ".part")
    part.write_text(str(server.server_port))
    part.rename(sys.argv[1])
    server.serve_forever()
