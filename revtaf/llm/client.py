"""One question to a multimodal LLM behind an OpenAI-compatible chat-completions endpoint, asked until it is answered.

The key comes from an environment variable and goes into one header of the request, nowhere else. Redirects are not
followed, since the key would go with them, and the key is taken out of whatever the server sends back.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path

from revtaf.data.image_names import find_file
from revtaf.errors import UserError
from revtaf.llm.endpoint import Endpoint, Prompt

MAX_ANSWER = 1 << 22  # bytes; a report has some thousands
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds; the wait doubles with every attempt
LONGEST_RETRY_AFTER = 600.0  # seconds; whoever is asked to wait longer had better come back later
SHORTEST_SECRET = 8  # characters; shorter "keys" are the placeholders of servers that want none
_MAGIC = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


@dataclass(frozen=True)
class Answer:
    """seconds: of the request that was answered, without earlier attempts and waits. model: as the server names it."""

    text: str
    seconds: float
    model: str
    finish_reason: str


class _Again(Exception):
    """Worth another attempt, after `wait` seconds at least."""

    def __init__(self, problem: str, wait: float = 0.0):
        super().__init__(problem)
        self.wait = wait


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


@dataclass
class Client:
    """Asks one question after the other, no faster than the endpoint allows. `sleep` and `clock` in seconds."""

    endpoint: Endpoint
    prompt: Prompt
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _started: float | None = field(default=None, repr=False)

    def ask(self, image: Path) -> Answer:
        """Raises UserError where the endpoint refuses the question, or has not answered it after all attempts."""
        key = self.endpoint.key()
        body = {"model": self.endpoint.model, "messages": self.prompt.messages(data_url(image))}
        if self.endpoint.max_tokens is not None:
            body["max_tokens"] = self.endpoint.max_tokens
        data = json.dumps(body).encode()
        for attempt in range(self.endpoint.retries + 1):
            self._keep_pace()
            try:
                return self._once(data, key)
            except _Again as again:
                problem, least = _without(str(again), key), again.wait
            if least > LONGEST_RETRY_AFTER:
                raise UserError(f"{self.endpoint.url}: {problem}; it asks to wait {least:.0f} s, run again after that")
            if attempt < self.endpoint.retries:
                self.sleep(max(least, min(FIRST_WAIT * 2**attempt, LONGEST_WAIT)))
        raise UserError(f"{self.endpoint.url}: {problem}, after {self.endpoint.retries + 1} attempts")

    def _keep_pace(self) -> None:
        if self._started is not None and self.endpoint.requests_per_minute:
            wait = self._started + 60 / self.endpoint.requests_per_minute - self.clock()
            if wait > 0:
                self.sleep(wait)
        self._started = self.clock()

    def _once(self, data: bytes, key: str) -> Answer:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}", "User-Agent": "revtaf"}
        request = urllib.request.Request(self.endpoint.address, data, headers, method="POST")
        start = self.clock()
        try:
            with urllib.request.build_opener(_NoRedirect).open(request, timeout=self.endpoint.timeout) as response:
                content = self._read(response, start)
        except urllib.error.HTTPError as error:
            raise self._refusal(error, key) from None
        except TimeoutError:
            raise _Again(f"no answer within {self.endpoint.timeout:g} s") from None
        except urllib.error.URLError as error:
            slow = isinstance(error.reason, TimeoutError)
            raise _Again(f"no connection within {self.endpoint.timeout:g} s" if slow else f"{error.reason}") from None
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"the connection broke: {type(error).__name__}") from None
        return _answer(content, self.clock() - start, key)

    def _read(self, response: http.client.HTTPResponse, start: float) -> bytes:
        """The body. The socket's timeout starts anew with every byte; a server that keeps dripping is stopped here."""
        pieces, size = [], 0
        while piece := response.read1(1 << 16):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_ANSWER:
                raise _Again(f"an answer of more than {MAX_ANSWER:,} bytes")
            if self.clock() - start > self.endpoint.timeout:
                raise TimeoutError
        return b"".join(pieces)

    def _refusal(self, error: urllib.error.HTTPError, key: str) -> Exception:
        """What an HTTP error means: worth another attempt, or for the user to settle."""
        try:
            said = _without(_message(error.read(1 << 16)), key)[:300]
        except (OSError, http.client.HTTPException):
            said = ""
        problem = f"HTTP {error.code}" + (f": {said}" if said else "")
        if error.code in (408, 429) or error.code >= 500:
            return _Again(problem, _retry_after(error.headers.get("Retry-After")))
        if error.code == 401:  # servers like to quote the key here
            return UserError(f"{self.endpoint.url}: HTTP 401, the key in {self.endpoint.key_variable} is not accepted")
        if error.code < 400:
            problem += "; redirects are not followed, since the key would go with them: configure the final address"
        return UserError(f"{self.endpoint.url}: {problem}")


def data_url(image: Path) -> str:
    """The file's bytes as they are, base64 in a data URL. Raises UserError unless it is a JPEG or PNG."""
    return f"data:{image_type(image)};base64,{base64.b64encode(_read(image)).decode()}"


def image_type(image: Path) -> str:
    """By the first bytes; the ending of a name proves nothing."""
    start = _read(image, 8)
    for magic, kind in _MAGIC.items():
        if start.startswith(magic):
            return kind
    raise UserError(f"image {image}: neither JPEG nor PNG; convert it first")


def _read(image: Path, size: int = -1) -> bytes:
    try:
        with open(find_file(image) or image, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise UserError(f"image {image}: cannot be read: {error.strerror}") from None


def _answer(content: bytes, seconds: float, key: str) -> Answer:
    try:
        reply = json.loads(content)
        choice = reply["choices"][0]
        text = choice["message"].get("content")
        if text is None:
            text = choice["message"]["refusal"]  # a refusal is what the model answered
        if isinstance(text, list):
            text = "".join(part["text"] for part in text)
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        said = _without(_message(content), key)[:200]
        raise _Again(f"expected choices[0].message.content in JSON, got {said!r}") from None
    named = (reply.get("model"), choice.get("finish_reason"))
    served, finish = (value if isinstance(value, str) else "" for value in named)
    return Answer(_without(text, key), seconds, _without(served, key), _without(finish, key))


def _message(content: bytes) -> str:
    """What a server says in an error: its message where it is JSON, its text otherwise; on one line."""
    text = content.decode("utf-8", "replace")
    try:
        said = json.loads(text)
        said = said.get("error", said) if isinstance(said, dict) else said
        said = said.get("message", said) if isinstance(said, dict) else said
        text = said if isinstance(said, str) else json.dumps(said)
    except (ValueError, RecursionError):
        pass
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text).split())


def _without(text: str, key: str) -> str:
    return text.replace(key, "[key]") if len(key) >= SHORTEST_SECRET else text


def _retry_after(value: str | None) -> float:
    """Seconds to wait, from a number or a date; 0 for anything else."""
    if not value:
        return 0.0
    if re.fullmatch(r"\d{1,9}(?:\.\d+)?", value.strip()):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
        return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
