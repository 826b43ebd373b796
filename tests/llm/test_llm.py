"""LLM texts: cleaned as the supplement says, read and joined strictly, asked for from a server that misbehaves.

The server is a small one on this machine. No test waits: time is a counter that `sleep` moves on.
"""

import base64
import json
import logging
import threading
import time
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from revtaf.cli import main
from revtaf.data.text import clean_report
from revtaf.errors import UserError
from revtaf.eval.protocol import postprocess
from revtaf.llm import outputs as llm
from revtaf.llm.ask import PHYSIONET_RULE, run
from revtaf.llm.endpoint import PROMPT_FILE, Endpoint, Prompt, read_prompt

KEY = "sk-not-a-real-key/0123456789"
PNG = b"\x89PNG\r\n\x1a\n" + b"invented pixels"
JPEG = b"\xff\xd8\xff\xe0" + b"invented pixels"


# --- cleaning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("The heart is normal. No effusion.", "The heart is normal. No effusion."),
        ("Findings: Heart normal. Lungs clear. Impression: No disease.", "Heart normal. Lungs clear."),
        ("FINDINGS:\r\nLungs clear.\r\n\r\nIMPRESSION:\r\nNormal chest.", "Lungs clear."),
        (
            "**Chest X-Ray Report**\n\n**Patient Information:** unknown\n\n---\n**Findings:**\n"
            "- **Lungs:** Clear.\n- **Heart:** Normal size.\n\n**Impression:**\nNo acute disease.",
            "Lungs: Clear. Heart: Normal size.",
        ),
        ("# Report\n## Technique\nPA.\n## Findings\n1. Lungs clear.\n2. Heart big.\n## Impression\n1. Ok.",)
        + ("Lungs clear. Heart big.",),
        ("1. Findings: Lungs clear. 2. Heart normal. 3) No effusion.", "Lungs clear. Heart normal. No effusion."),
        (
            "Findings: Heart normal.\nImpression: Fine.\nAdditional findings:\nA tube is seen.\nConclusion: Fine.",
            "Heart normal. A tube is seen.",
        ),
        ("Findings (PA view): Clear.", "Clear."),
        ("### Findings and Impression\nHeart big.", "Heart big."),
        ("Findings:\nClear.\nImpression/Recommendations:\nNone.\nNote: written by a model.", "Clear."),
        ("Heart normal.\n\nImpression: nothing.", "Heart normal."),
        ("Impression: Nothing wrong.", "Nothing wrong."),
        ("No acute findings\nHeart normal.", "No acute findings Heart normal."),
        ("There are no findings. Findings are stable.", "There are no findings. Findings are stable."),
        ("Findings:", ""),
        ("", ""),
        (" \n\t\x00\ud800", ""),
    ],
)
def test_cleaning_keeps_the_findings_and_nothing_else(output, expected):
    assert llm.clean_output(output) == expected


def test_numbers_go_and_leave_no_holes():
    assert llm.clean_output("A nodule of 2.5 cm (3,000 px) at T12, seen in 2019 (4).") == (
        "A nodule of cm ( px) at T, seen in."
    )


def test_markdown_goes_and_its_words_stay():
    text = "> `Clear` lungs, *normal* __heart__, [see here](http://x), a_b.\n| left | right |\n```\n***"
    assert llm.clean_output(text) == "Clear lungs, normal heart, see here, a_b. left right"


def test_a_text_is_cut_to_200_characters_after_all_else_was_removed():
    text = "Findings:\n" + "".join(f"{i}. Word {i} of a list.\n" for i in range(100))
    cleaned = llm.clean_output(text)
    full = llm.without_blanks(llm.without_numbers(llm.without_markdown(llm.findings_only(text))))
    assert len(full) > 1000 and cleaned == full[:200].rstrip()
    assert llm.clean_output("a" * 500) == "a" * 200


@pytest.mark.parametrize(
    "piece",
    [
        "a b ",
        "x. ",
        "word: ",
        " ",
        "1,",
        "#\t",
        "findings (",
        "[",
        "chest ",
        "*",
        "_",
        "a_",
        "![",
        "[a](",
        "findings ",
        "1. ",
        "\n- ",
        "impression/",
        "(1",
    ],
)
def test_a_hostile_text_takes_no_time(piece):
    """The patterns are linear: 200,000 characters of any repetition are cleaned at once."""
    start = time.perf_counter()
    llm.clean_output(piece * (200_000 // len(piece)))
    assert time.perf_counter() - start < 3


def test_decoder_form_is_what_scoring_turns_into_the_references_form():
    """A perfect answer, capitals and commas and all, equals its cleaned reference word for word."""
    for report in ("The heart, it seems, is normal. No effusion.", "Clear!", "Lungs are clear.  Tube: unchanged"):
        assert postprocess(llm.as_decoder_text(report)).split() == clean_report(report).split()
    assert llm.as_decoder_text("") == ""


# --- reading and joining ----------------------------------------------------------------------------------------------


def write(path: Path, content) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_all_forms_of_a_file_read_alike(tmp_path):
    rows = [{"id": "a", "text": "One."}, {"id": 7, "prediction": "Two\u2028lines."}]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n\n"
    expected = {"a": llm.Output("One."), "7": llm.Output("Two\u2028lines.")}
    assert llm.read_outputs(write(tmp_path / "1.json", {"a": "One.", "7": "Two\u2028lines."})) == expected
    assert llm.read_outputs(write(tmp_path / "2.json", rows)) == expected
    assert llm.read_outputs(write(tmp_path / "3.jsonl", lines)) == expected
    assert llm.read_outputs(write(tmp_path / "4.json", {"a": {"text": "One.", "seconds": 2}})) == {
        "a": llm.Output("One.", 2.0)
    }
    assert llm.read_outputs(write(tmp_path / "5.csv", "id,text,seconds\na,One.,2\nb,,\n")) == {
        "a": llm.Output("One.", 2.0),
        "b": llm.Output(""),
    }


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '{"x": "1", "y": "2", "x": "3"}', "1 duplicate ids: x"),
        ("a.json", [{"id": "x", "text": ""}, {"id": "x", "text": ""}], "1 duplicate ids: x"),
        ("a.json", "[]", "no outputs"),
        ("a.json", "3", "expected an object"),
        ("a.txt", "x", "unknown format"),
        ("a.json", '{"x": 3}', "field 'text': expected a text, got int"),
        ("a.json", [["x", "y"]], "entry 1: expected an object"),
        ("a.json", [{"text": "y"}], "'id' is missing"),
        ("a.json", [{"id": True, "text": "y"}], "column 'id'"),
        ("a.json", [{"id": "x"}], "(id x): expected 'text' or 'prediction', got neither"),
        ("a.json", [{"id": "x", "text": "", "prediction": ""}], "got both"),
        ("a.json", '[{"id": "x", "text": "", "seconds": NaN}]', "field 'seconds'"),
        ("a.json", [{"id": "x", "text": "", "seconds": -1}], "field 'seconds'"),
        ("a.json", "{", "line 1"),
        ("a.jsonl", '{"id": "x", "text": ""}\n{"id": "y", "te', "line 2: not a JSON object"),
    ],
)
def test_a_bad_file_is_one_message_with_file_and_place(tmp_path, name, content, said):
    path = write(tmp_path / name, content)
    with pytest.raises(UserError) as error:
        llm.read_outputs(path)
    assert said in str(error.value) and name in str(error.value)


def test_a_missing_file_is_one_message(tmp_path):
    for name in ("none.json", "none.jsonl"):
        with pytest.raises(UserError, match="not found"):
            llm.read_outputs(tmp_path / name)


def test_the_join_names_every_kind_of_mismatch_and_keeps_the_references_order():
    outputs = {"b": llm.Output("Findings: B.", 2.0), "a": llm.Output("A.", 1.0)}
    samples = llm.to_samples(outputs, {"a": "Ref a.", "b": "Ref b."})
    assert [(s.id, s.reference, s.prediction) for s in samples] == [("a", "Ref a.", "a."), ("b", "Ref b.", "b.")]
    assert llm.mean_seconds(samples) == 1.5
    assert llm.mean_seconds([samples[0], replace(samples[1], output=llm.Output("B."))]) is None
    many = [(f"m{i}", "r") for i in range(14)]
    with pytest.raises(UserError) as error:
        llm.to_samples(outputs, [("a", "r"), ("a", "r"), *many])
    for said in ("more than once among the references: a;", "14 references without an output: m0, ", "and 4 more"):
        assert said in str(error.value)
    assert "1 outputs without a reference: b" in str(error.value)


# --- asking -----------------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Plays the answers it was given, one per request, the last one for ever; keeps what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.asked, self.keys, self.paths = [], [], [], []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.keys.append(self.headers["Authorization"])
        self.server.paths.append(self.path)
        script = self.server.script
        answer = script.pop(0) if len(script) > 1 else script[0]
        status, headers, body = answer(self) if callable(answer) else answer
        if status is None:  # hang up
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

    do_GET = do_POST

    def log_message(self, *_):
        pass


class Time:
    """A clock that only `sleep` moves, and what was slept."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def said(text, **more):
    return 200, {}, {"choices": [{"message": {"content": text}, "finish_reason": "stop"}], **more}


HANG_UP = (None, {}, b"")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("REVTAF_LLM_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def images(tmp_path):
    """Two invented images: the endings lie, the bytes do not."""
    (tmp_path / "a.jpg").write_bytes(PNG)
    (tmp_path / "b.png").write_bytes(JPEG)
    return [("a", tmp_path / "a.jpg"), ("b", tmp_path / "b.png")]


def ask(server, samples, out, clock=None, prompt=None, agreement_allows=False, **options):
    clock = clock or Time()
    endpoint = Endpoint(server.url, "some-model", **options)
    run(
        endpoint,
        samples,
        out,
        prompt=prompt,
        agreement_allows=agreement_allows,
        sleep=clock.sleep,
        clock=clock.clock,
    )
    return clock


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_prompt_is_the_papers_and_is_sent_as_role_image_question(server, images, tmp_path):
    prompt = read_prompt()
    assert prompt.role.startswith("You are helpful assistant of a radiologist. Your task is help")
    assert prompt.question.endswith("Answer in one paragraph, and only include the finding part.")
    server.script = [said("Clear.", model="some-model-2024")]
    ask(server, images, tmp_path / "out.jsonl")
    assert server.paths == ["/v1/chat/completions"] * 2 and server.keys == [f"Bearer {KEY}"] * 2
    first, second = server.asked
    assert first["model"] == "some-model" and first["messages"][0] == {"role": "system", "content": prompt.role}
    image, question = first["messages"][1]["content"]
    assert question == {"type": "text", "text": prompt.question}
    kind, data = image["image_url"]["url"].split(";base64,")
    assert kind == "data:image/png" and base64.b64decode(data) == PNG
    assert second["messages"][1]["content"][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    row = records(tmp_path / "out.jsonl")[0]
    assert row["model"] == "some-model" and row["served_model"] == "some-model-2024" and row["prompt"] == prompt.digest
    assert list(llm.read_outputs(tmp_path / "out.jsonl")) == ["a", "b"]


def test_a_prompt_file_of_another_form_is_refused(tmp_path):
    for content in ("", "[a] + [b]", "[a] + [b] + [c] + [d]"):
        with pytest.raises(UserError, match=r"\[role\] \+ \[image\] \+ \[question\]"):
            read_prompt(write(tmp_path / "prompt.txt", content))
    with pytest.raises(UserError, match="cannot be read"):
        read_prompt(tmp_path / "none.txt")
    assert PROMPT_FILE.is_file()


@pytest.mark.parametrize(
    ("trouble", "waits"),
    [
        ((500, {}, b"<html>oh</html>"), 1.0),
        ((503, {"Retry-After": "7"}, {}), 7.0),
        ((429, {"Retry-After": "2.5"}, {}), 2.5),
        ((429, {"Retry-After": "soon"}, {}), 1.0),
        ((408, {}, {}), 1.0),
        ((200, {}, b"{not json"), 1.0),
        ((200, {}, {"error": {"message": "overloaded"}}), 1.0),
        ((200, {}, {"choices": [{"message": {"content": None}}]}), 1.0),
        ((200, {"Content-Length": "999"}, b"{"), 1.0),
        (HANG_UP, 1.0),
    ],
)
def test_trouble_that_may_pass_is_waited_for(server, images, tmp_path, trouble, waits):
    server.script = [trouble, said("Clear.")]
    clock = ask(server, images[:1], tmp_path / "out.jsonl")
    assert clock.slept == [waits] and len(server.asked) == 2
    assert records(tmp_path / "out.jsonl")[0]["seconds"] == 0  # waits are not the model's time


def test_retry_after_may_be_a_date(server, images, tmp_path):
    server.script = [(429, {"Retry-After": formatdate(time.time() + 30, usegmt=True)}, {}), said("Clear.")]
    clock = ask(server, images[:1], tmp_path / "out.jsonl")
    assert 25 < clock.slept[0] <= 30


def test_waits_double_and_end_in_one_message(server, images, tmp_path):
    server.script = [(500, {}, {"error": {"message": "no\nluck"}})]
    clock = Time()
    with pytest.raises(UserError, match=r"HTTP 500: no luck, after 8 attempts \(id a; .* the same command continues"):
        ask(server, images, tmp_path / "out.jsonl", clock, retries=7)
    assert clock.slept == [1, 2, 4, 8, 16, 32, 60]


def test_a_very_long_retry_after_is_told_instead_of_slept(server, images, tmp_path):
    server.script = [(429, {"Retry-After": "86400"}, {})]
    clock = Time()
    with pytest.raises(UserError, match="asks to wait 86400 s"):
        ask(server, images, tmp_path / "out.jsonl", clock)
    assert clock.slept == []


def test_a_server_that_does_not_answer_times_out(server, images, tmp_path):
    def late(handler):
        time.sleep(0.15)
        return said("Too late.")

    server.script = [late, said("Clear.")]
    clock = ask(server, images[:1], tmp_path / "out.jsonl", timeout=0.05)
    assert clock.slept == [1.0] and records(tmp_path / "out.jsonl")[0]["text"] == "Clear."


def test_a_server_that_drips_times_out(server, images, tmp_path):
    """The timeout is that of the whole answer: bytes that keep coming do not prolong it."""

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(50):
                handler.wfile.write(b" ")
                time.sleep(0.01)
        except OSError:
            pass
        return HANG_UP

    server.script = [drip]
    start = time.monotonic()
    with pytest.raises(UserError, match=r"no answer within 0\.05 s"):
        endpoint = Endpoint(server.url, "m", timeout=0.05, retries=0)
        run(endpoint, images[:1], tmp_path / "out.jsonl", sleep=lambda _: None)
    assert time.monotonic() - start < 0.4


def test_nobody_at_the_address_is_one_message(server, images, tmp_path):
    server.url = "http://127.0.0.1:9/v1"
    with pytest.raises(UserError, match="after 2 attempts"):
        ask(server, images, tmp_path / "out.jsonl", retries=1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refused_question_is_not_repeated_and_never_shows_the_key(server, images, tmp_path, status, caplog, capfd):
    """Servers quote the key they refuse; neither message, log, traceback nor file may hold it."""
    caplog.set_level(logging.DEBUG)
    server.script = [(status, {}, {"error": {"message": f"Incorrect API key provided: {KEY}."}})]
    clock = Time()
    with pytest.raises(UserError) as error:
        ask(server, images, tmp_path / "out.jsonl", clock)
    assert f"HTTP {status}" in str(error.value) and len(server.asked) == 1 and clock.slept == []
    printed = capfd.readouterr()
    shown = str(error.getrepr(showlocals=False)) + caplog.text + printed.out + printed.err
    assert KEY not in shown.replace(f'KEY = "{KEY}"', "")
    assert (tmp_path / "out.jsonl").read_text() == ""
    if status == 401:
        assert "the key in REVTAF_LLM_KEY is not accepted" in str(error.value)


def test_a_key_in_an_answer_or_in_escaped_json_is_taken_out(server, images, tmp_path):
    server.script = [said(f"My key is {KEY}.", model=KEY)]
    ask(server, images, tmp_path / "out.jsonl")
    assert KEY not in (tmp_path / "out.jsonl").read_text() and "[key]" in (tmp_path / "out.jsonl").read_text()
    server.script = [(404, {}, b'{"detail": "' + KEY.replace("/", "\\/").encode() + b'"}')]
    with pytest.raises(UserError) as error:
        ask(server, images, tmp_path / "other.jsonl")
    assert "0123456789" not in str(error.value)


def test_a_redirect_is_not_followed(server, images, tmp_path):
    """It would carry the key to another host."""
    server.script = [(302, {"Location": f"{server.url}/elsewhere"}, b""), said("Stolen.")]
    with pytest.raises(UserError, match="redirects are not followed"):
        ask(server, images, tmp_path / "out.jsonl")
    assert len(server.asked) == 1


def test_keys_that_cannot_be_used_are_told_without_being_shown(server, images, tmp_path, monkeypatch):
    for key, reason in (
        ("", "set the environment variable"),
        (f"{KEY}\nX: y", "cannot be in a key"),
        ("k\u00e9y" * 5, "ASCII"),
    ):
        monkeypatch.setenv("REVTAF_LLM_KEY", key)
        with pytest.raises(UserError, match=reason) as error:
            ask(server, images, tmp_path / "out.jsonl")
        assert not key or key[:10] not in str(error.value)
    assert not server.asked and not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("url", "options", "reason"),
    [
        ("host/v1", {}, "expected an address"),
        ("ftp://host/v1", {}, "expected an address"),
        ("https://host:x/v1", {}, "not a URL"),
        (f"https://user:{KEY}@host/v1", {}, "not a URL"),
        ("https://user:word@host/v1", {}, "keep the key out of the URL"),
        (f"https://host/v1?api-key={KEY}", {}, "keep the key out of the URL"),
        ("http://api.example.org/v1", {}, "use https"),
        ("https://host/v1", {"timeout": 0}, "timeout must be above 0"),
        ("https://host/v1", {"requests_per_minute": 0}, "requests_per_minute must be above 0"),
        ("https://host/v1", {"retries": -1}, "retries >= 0"),
        ("https://host/v1", {"max_tokens": 0}, "max_tokens >= 1"),
        ("https://host/v1", {"model": " "}, "no model named"),
    ],
)
def test_an_impossible_endpoint_is_refused_at_once(url, options, reason):
    with pytest.raises(UserError, match=reason) as error:
        Endpoint(url, **{"model": "m", **options})
    assert KEY not in str(error.value)


def test_both_forms_of_an_address_ask_at_the_same_place():
    assert Endpoint("https://h/v1/", "m").address == "https://h/v1/chat/completions"
    assert Endpoint("https://h/v1/chat/completions", "m").address == "https://h/v1/chat/completions"
    assert Endpoint("https://h/v1?api-version=2", "m").address == "https://h/v1/chat/completions?api-version=2"
    assert Endpoint("http://gpu01:8000/v1", "m").address and Endpoint("http://10.0.0.3/v1", "m").address


def test_requests_keep_their_distance_retries_included(server, images, tmp_path):
    server.script = [said("One."), (500, {}, b""), said("Two.")]
    clock = Time()
    starts = []
    asked = server.asked
    server.asked = type("Log", (list,), {"append": lambda self, x: (starts.append(clock.now), asked.append(x))})()
    ask(server, images, tmp_path / "out.jsonl", clock, requests_per_minute=10)
    assert starts == [0, 6, 12]


def test_no_rate_means_no_waiting(server, images, tmp_path):
    server.script = [said("One.")]
    assert ask(server, images, tmp_path / "out.jsonl").slept == []


@pytest.mark.parametrize("left", [b'{"id": "b", "te', b"\x00\x00\xff", b'{"id": "b"'])
def test_an_interrupted_run_continues_with_what_is_missing(server, images, tmp_path, left):
    out = tmp_path / "out.jsonl"
    server.script = [said("One."), (400, {}, {})]
    with pytest.raises(UserError):
        ask(server, images, out)
    before = out.read_bytes()
    out.write_bytes(before + left)  # killed in the middle of a line
    server.script = [said("Two.")]
    server.asked.clear()
    ask(server, images, out)
    assert len(server.asked) == 1 and out.read_bytes().startswith(before)
    assert [(r["id"], r["text"]) for r in records(out)] == [("a", "One."), ("b", "Two.")]
    finished = out.read_bytes()
    out.write_bytes(finished.rstrip(b"\n"))  # whole, but for its end
    ask(server, images, out)
    assert out.read_bytes() == finished and len(server.asked) == 1


def test_a_file_of_another_model_prompt_or_length_is_refused(server, images, tmp_path):
    out = tmp_path / "out.jsonl"
    server.script = [said("One.")]
    ask(server, images, out)
    before = out.read_bytes()
    with pytest.raises(UserError, match="line 1: made with prompt"):
        ask(server, images, out, prompt=Prompt("Other role.", "Other question."))
    with pytest.raises(UserError, match="line 1: made with max_tokens 512, this run has 9"):
        ask(server, images, out, max_tokens=9)
    with pytest.raises(UserError, match="line 1: made with model 'some-model', this run has 'other'"):
        run(Endpoint(server.url, "other"), images, out)
    assert out.read_bytes() == before and len(server.asked) == 2
    for content, reason in (("{}\n", "not an answer of this command"), ("{\n{}\n", "line 1: not a JSON object")):
        with pytest.raises(UserError, match=reason):
            ask(server, images, write(out, content))


def test_bad_samples_are_refused_before_anything_is_sent(server, images, tmp_path):
    (tmp_path / "c.jpg").write_bytes(b"GIF89a")
    for samples, reason in (
        ([*images, images[0]], "duplicate ids among the samples: a"),
        ([*images, ("c", tmp_path / "c.jpg")], "neither JPEG nor PNG"),
        ([*images, ("d", tmp_path / "none.jpg")], "cannot be read"),
    ):
        with pytest.raises(UserError, match=reason):
            ask(server, samples, tmp_path / "out.jsonl")
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        ask(server, images, tmp_path / "folder.jsonl")
    with pytest.raises(UserError, match="ending in .jsonl"):
        ask(server, images, tmp_path / "out.json")
    assert not server.asked


def test_answers_in_parts_refusals_and_empty_texts_are_kept_as_answers(server, tmp_path, images):
    refusal = {"choices": [{"message": {"content": None, "refusal": "I cannot."}}]}
    server.script = [said([{"type": "text", "text": "One "}, {"type": "text", "text": "text."}]), (200, {}, refusal)]
    ask(server, images, tmp_path / "out.jsonl")
    assert [r["text"] for r in records(tmp_path / "out.jsonl")] == ["One text.", "I cannot."]
    server.script = [said("")]
    ask(server, images[:1], tmp_path / "empty.jsonl", max_tokens=None)
    assert llm.read_outputs(tmp_path / "empty.jsonl")["a"].text == "" and "max_tokens" not in server.asked[-1]


# --- privacy ----------------------------------------------------------------------------------------------------------

DICOM = "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014"


def mimic_by_source(folder):
    write(folder / "source.json", {"source": "MIMIC-CXR-JPG and MIMIC-CXR reports (PhysioNet)"})
    return "s1", folder / "images" / "p10" / "a.jpg"


def mimic_by_link(folder):
    real = folder / "mimic-cxr-jpg-2.1.0" / "files" / "a.jpg"
    real.parent.mkdir(parents=True)
    real.write_bytes(PNG)
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").symlink_to(real)
    return "s1", folder / "images" / "a.jpg"


def mimic_by_name(folder):
    return "s1", folder / f"{DICOM}.jpg"


def mimic_by_id(folder):
    return DICOM, folder / "a.jpg"


@pytest.mark.parametrize("place", [mimic_by_source, mimic_by_link, mimic_by_name, mimic_by_id])
def test_mimic_images_are_not_sent_unless_the_user_says_they_may(server, images, tmp_path, place):
    folder = tmp_path / "set"
    folder.mkdir()
    name, image = place(folder)
    image.parent.mkdir(parents=True, exist_ok=True)
    if not image.exists():
        image.write_bytes(PNG)
    server.script = [said("Clear.")]
    with pytest.raises(UserError) as error:
        ask(server, [*images, (name, image)], tmp_path / "out.jsonl")
    assert "MIMIC-CXR" in str(error.value) and PHYSIONET_RULE in str(error.value)
    assert not server.asked and not (tmp_path / "out.jsonl").exists()
    ask(server, [(name, image)], tmp_path / "out.jsonl", agreement_allows=True)
    assert len(server.asked) == 1


def test_images_of_other_sets_are_sent(server, images, tmp_path):
    write(tmp_path / "source.json", {"source": "IU X-Ray (Open-i)", "note": "not mimic"})
    server.script = [said("Clear.")]
    ask(server, images, tmp_path / "out.jsonl")
    assert len(server.asked) == 2


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_asks_for_the_studies_of_a_split_and_score_reads_the_answers(server, images, tmp_path):
    """`revtaf llm`, then `revtaf score --llm`: from an annotation to a row."""
    studies = [{"id": n, "image_path": [n], "report": f"The lungs are clear. Study {n}."} for n in ("a.jpg", "b.png")]
    (tmp_path / "annotation.json").write_text(json.dumps({"test": studies}))
    server.script = [said("The lungs are clear.")]
    out = tmp_path / "outputs" / "model.jsonl"
    asked = ["llm", "--url", server.url, "--model", "m", "--annotation", tmp_path / "annotation.json"]
    assert main([str(x) for x in [*asked, "--images", tmp_path, "--out", out]]) == 0
    assert set(llm.read_outputs(out)) == {"a.jpg", "b.png"} and KEY not in out.read_text()
    rows = [{"id": s["id"], "reference": s["report"], "prediction": "lungs clear."} for s in studies]
    (tmp_path / "ours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scored = ["score", tmp_path / "ours.jsonl", "--llm", out, "--out", tmp_path / "s", "--java", "/none"]
    assert main([str(x) for x in [*scored, "--resamples", "50"]]) == 0
    assert "model" in json.loads((tmp_path / "s" / "report.json").read_text())["metrics"]
    assert main([str(x) for x in [*asked, "--images", tmp_path, "--out", out, "--split", "val"]]) == 2


def test_a_second_command_on_the_same_answers_is_refused(server, images, tmp_path):
    """Both would ask, and pay, for the same images, and leave every id twice."""
    out, refused = tmp_path / "out.jsonl", []

    def meanwhile(handler):
        with pytest.raises(UserError, match=r"another process is asking for out\.jsonl"):
            run(Endpoint(server.url, "m"), images[:1], out)
        refused.append(True)
        return said("Clear.")

    server.script = [meanwhile]
    ask(server, images[:1], out)
    assert refused == [True] and len(records(out)) == 1 and list(tmp_path.glob(".out.jsonl*")) == []
