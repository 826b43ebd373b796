"""What the user configures to ask a multimodal LLM: the endpoint, and the prompt (supplement, section 4)."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from revtaf.errors import UserError
from revtaf.files import digest

PROMPT_FILE = Path(__file__).with_name("prompt.txt")
_SECRET = re.compile("key|token|secret|sig|pass", re.IGNORECASE)


@dataclass(frozen=True)
class Prompt:
    """role + image + question, as the paper prints its prompt."""

    role: str
    question: str

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of the texts and of their place in the messages."""
        return digest(self.messages("IMAGE"))

    def messages(self, image_url: str) -> list[dict]:
        """The role as the system's message; then the user's, with the image above the question as its text has it."""
        image = {"type": "image_url", "image_url": {"url": image_url}}
        return [
            {"role": "system", "content": self.role},
            {"role": "user", "content": [image, {"type": "text", "text": self.question}]},
        ]


def read_prompt(path: str | Path = PROMPT_FILE) -> Prompt:
    """A prompt file: "[role] + [image] + [question]"; lines that start with # are comments."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompt {path}: cannot be read: {error}") from None
    text = "\n".join(line for line in lines if not line.startswith("#")).strip()
    parts = re.fullmatch(r"\[([^\[\]]+)\] \+ \[[^\[\]]+\] \+ \[([^\[\]]+)\]", text)
    if not parts:
        raise UserError(f"prompt {path}: expected one text of the form [role] + [image] + [question]")
    return Prompt(parts[1].strip(), parts[2].strip())


@dataclass(frozen=True)
class Endpoint:
    """Where and whom to ask. It names the variable that holds the key and never holds the key itself.

    url: the server's base ("https://host/v1") or its full ".../chat/completions". timeout: seconds for one whole
    answer. retries: further attempts after the first. max_tokens: None leaves the length to the server, which models
    that know only "max_completion_tokens" need.
    """

    url: str
    model: str
    key_variable: str = "REVTAF_LLM_KEY"
    timeout: float = 60.0
    retries: int = 5
    requests_per_minute: float | None = None
    max_tokens: int | None = 512

    def __post_init__(self) -> None:
        shown = self.url.split("?")[0].rsplit("@", 1)[-1]  # what may be secret stays out of the message
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise UserError(f"endpoint {shown}: not a URL") from None
        if parts.scheme not in ("http", "https") or not host or not re.fullmatch(r"[!-~]+", self.url):
            raise UserError(f"endpoint {shown}: expected an address such as https://host/v1")
        secret = [
            name for name, _ in parse_qsl(parts.query, True) if re.search("key|token|secret|sig|pass", name, re.I)
        ]
        if parts.username or parts.password or secret:
            raise UserError(
                f"endpoint {shown}: keep the key out of the URL; put it in the variable {self.key_variable}"
            )
        if parts.scheme == "http" and not _is_near(host):
            raise UserError(f"endpoint {shown}: http would send the key and the images in the clear; use https")
        if not self.model.strip():
            raise UserError(f"endpoint {shown}: no model named")
        for name, value in (("timeout", self.timeout), ("requests_per_minute", self.requests_per_minute)):
            if value is not None and not value > 0:
                raise UserError(f"endpoint {shown}: {name} must be above 0, got {value}")
        if self.retries < 0 or (self.max_tokens is not None and self.max_tokens < 1):
            raise UserError(
                f"endpoint {shown}: expected retries >= 0 and max_tokens >= 1, got {self.retries} and {self.max_tokens}"
            )

    @property
    def address(self) -> str:
        """The full address of the questions."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/")
        path += "" if path.endswith("/chat/completions") else "/chat/completions"
        return urlunsplit(parts._replace(path=path, fragment=""))

    def key(self) -> str:
        """From the environment. Raises UserError where it is missing or cannot be sent; no message contains it."""
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise UserError(
                f"no key for {self.url}: set the environment variable {self.key_variable} (to any word for a server "
                "that needs none)"
            )
        if not re.fullmatch(r"[!-~]+", key):  # http.client would quote it in its complaint
            raise UserError(f"{self.key_variable}: blanks, line breaks or letters outside ASCII cannot be in a key")
        return key


def _is_near(host: str) -> bool:
    """This machine, a private address, or a name without a dot: a network of one's own."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host
