"""Models behind an OpenAI-compatible endpoint: cached on disk, within a budget, tried again when they fail.

Which server it is does not matter (a cloud, vLLM, llama.cpp on this machine): ``/chat/completions`` with pictures and
``/images/edits`` are all that is used. The client is the package ``openai`` (``pip install "moonshelf[remote]"``).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from moonshelf.errors import InputError
from moonshelf.workspace import atomic_write, digest

if TYPE_CHECKING:
    import openai
    from PIL import Image

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPENAI, OPENAI_KEY = "api.openai.com", "OPENAI_API_KEY"
SUSPICIOUS = (
    5  # calls that are refused before any is answered: then it is the request that is wrong, not the products
)
ANSWER_BYTES = 32_000_000  # a larger answer is not a picture that anybody asked for


class Refused(Exception):
    """The endpoint will not do this one thing; others may go well. ``str`` is the reason, for a table."""


class BudgetSpent(InputError):
    """As many calls were made as were allowed. What was answered is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConfig:
    """Where a model answers.

    Attributes:
        url: the part before ``/chat/completions``, such as ``http://127.0.0.1:8000/v1``.
        model: its name there.
        key_variable: environment variable with the key, which is never written anywhere. "": ``OPENAI_API_KEY`` for
            api.openai.com, none for anybody else: one provider's key is not another's business.
        seconds: for one answer.
        retries: of a call that failed for a reason that may pass (429, 5xx, no connection), waiting longer each time.
        budget: calls at most, retries not counted; answers from the cache are free. 0: no limit.
    """

    url: str
    model: str
    key_variable: str = ""
    seconds: float = 180.0
    retries: int = 6
    budget: int = 0


class Endpoint:
    """One model; safe to be called by several threads.

    Args:
        config: where.
        answers: folder of answers by what was asked; the same question is never paid for twice.

    Attributes:
        calls, cached: answers that were asked for, and found. tokens: as the endpoint counted them.

    Raises:
        InputError: the package is missing, the address is none, or a key would travel readable to another machine.
    """

    def __init__(self, config: EndpointConfig, answers: Path) -> None:
        try:
            import openai
        except ImportError as error:
            raise InputError(
                "the package openai is missing", mend='pip install "moonshelf[remote]"'
            ) from error
        try:
            at = urlsplit(config.url)
        except ValueError:
            at = urlsplit("")
        if at.scheme not in ("http", "https") or not at.hostname:
            raise InputError(
                "this is no address of an endpoint", where=config.url, mend="write http://host:port/v1"
            )
        if at.username or at.password:
            raise InputError(
                "the address holds a password",
                where=at.hostname,
                mend="put it into a variable of the environment, and name that",
            )
        variable = config.key_variable or (OPENAI_KEY if at.hostname == OPENAI else "")
        key = os.environ.get(variable, "") if variable else ""
        if key and at.scheme == "http" and at.hostname not in LOOPBACK:
            raise InputError(
                f"the key in {variable} would travel readable to another machine",
                where=config.url,
                mend="use https, or name no variable if the server needs no key",
            )
        self.config, self.answers = config, answers
        self.calls = self.cached = self.tokens = 0
        self._answered = self._refused = 0
        self._doubtful: dict[Path, str] = {}  # refusals before any answer: kept once something was answered
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        # what is asked of this machine must not go through a proxy that the environment names
        through = (
            {"http_client": openai.DefaultHttpxClient(trust_env=False)} if at.hostname in LOOPBACK else {}
        )
        self._client: openai.OpenAI = openai.OpenAI(
            base_url=config.url,
            api_key=key or "none",
            max_retries=config.retries,
            timeout=config.seconds,
            **through,  # type: ignore[arg-type]
        )

    def chat(
        self,
        system: str,
        text: str,
        pictures: Sequence[Image.Image] = (),
        *,
        most_tokens: int = 400,
        temperature: float = 0.0,
        seed: int = 0,
        schema: Mapping[str, Any] | None = None,
    ) -> str:
        """The answer to a text with pictures.

        Args:
            system: how to answer.
            text: what is asked.
            pictures: shown with it, as JPEG with 768 pixels at most on a side.
            most_tokens: of the answer.
            schema: JSON schema that the answer is held to, by servers that can; others ignore it or refuse.

        Raises:
            Refused: this question alone is not answered (filtered, too long, an empty answer).
            BudgetSpent, InputError: nothing more will be answered.
        """
        shown = [_encoded(picture, "JPEG", 768) for picture in pictures]
        asked: dict[str, Any] = {
            "model": self.config.model, "max_tokens": most_tokens, "temperature": temperature, "seed": seed,
        }  # fmt: skip
        if schema is not None:
            asked["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": dict(schema)},
            }
        hashes = [hashlib.sha256(data).hexdigest() for data in shown]
        mark = digest(["chat", self.config.url, asked, system, text, hashes])
        parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
        parts += [
            {
                "type": "image_url",
                "image_url": {"url": "data:image/jpeg;base64," + base64.b64encode(data).decode()},
            }
            for data in shown
        ]
        messages: Any = [
            {"role": "system", "content": system},
            {"role": "user", "content": parts if shown else text},
        ]

        def ask() -> bytes:
            found = self._call(lambda: self._client.chat.completions.create(messages=messages, **asked))
            answer = (found.choices[0].message.content if found.choices else "") or ""
            if not answer.strip():
                raise Refused("the endpoint gave an empty answer")
            used = getattr(found.usage, "total_tokens", 0) or 0
            with self._lock:
                self.tokens += used
            return json.dumps({"text": answer, "tokens": used}).encode()

        return str(json.loads(self._once(f"{mark}.json", ask))["text"])

    def edit(self, picture: Image.Image, prompt: str) -> bytes:
        """The bytes of another picture, made from one by what the prompt says; raises as :meth:`chat`."""
        data = _encoded(picture, "PNG", 1024)
        name = self.config.model
        mark = digest(["edit", self.config.url, name, prompt, hashlib.sha256(data).hexdigest()])
        # the gpt-image models always give bytes and refuse to be asked for them
        form: dict[str, Any] = {} if name.startswith("gpt-image") else {"response_format": "b64_json"}

        def ask() -> bytes:
            photo = ("photo.png", data, "image/png")
            found = self._call(
                lambda: self._client.images.edit(model=name, image=photo, prompt=prompt, n=1, **form)
            )
            text = found.data[0].b64_json if found.data else None
            if not text:  # links are not followed: they may lead anywhere
                raise Refused("the endpoint gave no picture in its answer")
            if len(text) > ANSWER_BYTES * 4 // 3:
                raise Refused("the picture of the endpoint is too large")
            try:
                return base64.b64decode(text, validate=True)
            except ValueError as error:
                raise Refused("the picture of the endpoint cannot be read") from error

        return self._once(f"{mark}.bin", ask)

    def _once(self, name: str, ask: Callable[[], bytes]) -> bytes:
        """What was answered before, or the answer now; of several threads with one question one asks."""
        path = self.answers / name[:2] / name
        refusal = path.with_name(f"{name}.refused")
        with self._lock:
            own = self._asking.setdefault(name, threading.Lock())
        with own:
            for kept in (path, refusal):
                if kept.is_file():
                    with self._lock:
                        self.cached += 1
                    if kept is refusal:
                        raise Refused(kept.read_text(encoding="utf-8"))
                    return kept.read_bytes()
            path.parent.mkdir(parents=True, exist_ok=True)
            where = f"{self.config.model} at {self.config.url}"
            try:
                answer = ask()
            except Refused as error:
                with self._lock:
                    self._refused += 1
                    answered = self._answered > 0
                    suspicious = not answered and self._refused >= SUSPICIOUS
                    if not answered:
                        self._doubtful[refusal] = str(error)
                if suspicious:
                    raise InputError(
                        f"the endpoint answered none of the first {SUSPICIOUS} calls, the last one: {error}",
                        where=where,
                        mend="look at the model and at what it can be asked for",
                    ) from error
                if answered:  # a refusal is an answer, unless nothing was ever answered
                    atomic_write(refusal, str(error).encode())
                raise
            except (AttributeError, TypeError, IndexError, ValueError) as error:
                raise InputError(
                    "the endpoint gives no answer of the OpenAI kind",
                    where=where,
                    mend="look at the address: it is the part before /chat/completions, such as http://host:port/v1",
                ) from error
            with self._lock:
                self._answered += 1
                earlier, self._doubtful = self._doubtful, {}
            for other, why in earlier.items():
                atomic_write(other, why.encode())
            atomic_write(path, answer)
            return answer

    def _call(self, call: Any) -> Any:
        import openai

        with self._lock:
            if self.config.budget and self.calls >= self.config.budget:
                raise BudgetSpent(
                    f"{self.calls} calls were made, as many as were allowed",
                    where=self.config.url,
                    mend="run it again to go on from here",
                )
            self.calls += 1
        where = f"{self.config.model} at {self.config.url}"
        try:
            return call()
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise InputError(
                "the endpoint does not let us in",
                where=where,
                mend=f"put the key into {self.config.key_variable or 'a variable of the environment, and name that'}",
            ) from error
        except openai.NotFoundError as error:
            raise InputError(
                "the endpoint does not know this model or path", where=where, mend="look at both"
            ) from error
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise Refused(_refusal(error)) from error
        except openai.APIStatusError as error:
            if error.status_code == 413:
                raise Refused(_refusal(error)) from error
            again = error.status_code in (408, 409, 429) or error.status_code >= 500
            raise InputError(
                f"the endpoint failed with {error.status_code}"
                + (f", {self.config.retries + 1} times" if again else ""),
                where=where,
                mend="run it again later: what was answered is kept",
            ) from error
        except openai.APIConnectionError as error:
            raise InputError(
                "the endpoint does not answer", where=where, mend="start it, or look at the address"
            ) from error


def _refusal(error: Any) -> str:
    """Why one thing is not answered, with the endpoint's own words."""
    body = error.body if isinstance(error.body, dict) else {}
    words = " ".join(str(body.get("message") or "").split())[:120]
    return f"the endpoint refuses it ({error.status_code})" + (f": {words}" if words else "")


def _encoded(picture: Image.Image, form: str, side: int) -> bytes:
    picture = picture.convert("RGB")
    picture.thumbnail((side, side))
    out = io.BytesIO()
    picture.save(out, form, **({"quality": 90} if form == "JPEG" else {}))
    return out.getvalue()
