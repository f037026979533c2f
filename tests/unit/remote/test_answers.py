"""Answers of a server, through a real worker process: the frames of a local model's, and nothing unasked."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kylin_gguf.engine.remote.options import KNOWN
from kylin_gguf.errors import (
    ConfigError,
    ContextFull,
    NotLocal,
    RemoteFailed,
    RemoteUnreachable,
    UnknownOption,
    UnsupportedModel,
    of_code,
)
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import Entry, Message, RemoteModel
from kylin_gguf.sessions import Session
from tests.chat_server import DONE, USAGE, Asked, ChatServer, answer, delta, event, serve

from .conftest import TOKEN, ask, frames_of


def text(frames: list[dict[str, Any]], kind: str = "text") -> str:
    return "".join(frame["text"] for frame in frames if frame["type"] == kind)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_an_answer_has_the_frames_of_a_local_one_and_says_where_it_is_from(
    server: ChatServer, session: Session
) -> None:
    frames = await ask(session)
    host = server.url.split("/")[2]
    assert frames[0] == {"type": "notice", "code": "remote", "host": host}
    assert text(frames) == "Hello."
    usage = frames[-2]
    counted = {"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 2, "queue_s": 0.0}
    assert usage["type"] == "usage" and counted.items() <= usage.items() and "energy_j" not in usage
    assert frames[-1] == {"type": "end", "reason": "stop"}
    assert [entry.message.content for entry in session.conversation.entries] == ["Hi", "Hello."]


async def test_what_is_sent_is_what_was_said_and_asked_for(server: ChatServer, session: Session) -> None:
    session.set_context([Entry(Message("system", "Be brief."))])
    await ask(session, temperature=0.0, max_tokens=5)
    await ask(session, "And?")
    first, second = server.asked
    assert first.path == "/v1/chat/completions" and first.headers["Authorization"] == f"Bearer {TOKEN}"
    said = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
    assert first.body == {
        "model": "big",
        "messages": [*said],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.0,
        "max_tokens": 5,
    }
    assert [message["role"] for message in second.body["messages"]] == ["system", "user", "assistant", "user"]
    assert "temperature" not in second.body


async def test_thoughts_and_sentences_have_frames_of_their_own(server: ChatServer, session: Session) -> None:
    server.says(delta(reasoning_content="Hm."), *answer("One. ", "Two."))
    frames = await ask(session, sentences=True)
    assert (text(frames, "reasoning"), text(frames)) == ("Hm.", "One. Two.")
    assert [frame["text"] for frame in frames if frame["type"] == "sentence"] == ["One.", "Two."]
    server.says(*answer("<thi", "nk>Hm.</th", "ink>\n\nYes."))
    frames = await ask(session)
    assert (text(frames, "reasoning"), text(frames)) == ("Hm.", "Yes.")
    server.says(*answer('{"a": "<think>"}'))
    assert text(await ask(session, json_schema="{}")) == '{"a": "<think>"}'


async def test_log_probabilities_come_in_frames(server: ChatServer, session: Session) -> None:
    token = {"token": "x", "logprob": -0.5, "top_logprobs": [{"token": "y", "logprob": -1.5}] * 5}
    choice = {"delta": {"content": "x"}, "logprobs": {"content": [token] * 9}}
    server.says(event({"choices": [choice]}), *answer(""))
    frames = [frame for frame in await ask(session, logprobs=5) if frame["type"] == "logprobs"]
    assert sum(len(frame["tokens"]) for frame in frames) == 9
    assert max(len(frame["tokens"]) * 6 for frame in frames) <= 32, "a frame must be small"


async def test_a_server_that_does_not_count_gives_no_usage(server: ChatServer, session: Session) -> None:
    server.says(delta(content="x"), delta("length"), DONE)
    frames = await ask(session)
    assert [frame["type"] for frame in frames] == ["notice", "text", "end"]
    assert frames[-1]["reason"] == "length"


async def test_nothing_is_sent_before_somebody_asks(
    server: ChatServer, model: RemoteModel, pool: EnginePool
) -> None:
    await pool.acquire(model)
    (loaded,) = pool.loaded()
    assert (loaded.remote, loaded.path, loaded.placement) == (model.host, None, None)
    (_, activity), *_ = await pool.activity()
    assert (activity.running, activity.requests) == (0, 0)
    assert not server.asked


async def test_figures_are_told(model: RemoteModel, session: Session, pool: EnginePool) -> None:
    await ask(session)
    (_, activity), *_ = await pool.activity()
    assert (activity.requests, activity.cached_tokens, activity.prompt_tokens) == (1, 2, 5)
    assert activity.generated_tokens == USAGE["completion_tokens"]


async def test_a_connection_that_breaks_is_said_to_have(server: ChatServer, session: Session) -> None:
    server.headers |= {"Transfer-Encoding": "chunked"}
    server.says(b"%x\r\n%s\r\n" % (len(delta(content="x")), delta(content="x")))
    assert isinstance(failure(await ask(session)), RemoteFailed)


# --- what is refused ----------------------------------------------------------------------------------


async def test_what_a_server_cannot_is_refused_before_anything_is_sent(
    server: ChatServer, session: Session
) -> None:
    with pytest.raises(UnknownOption) as caught:
        await session.generate({"prompt": "Hi", "top_k": 40})
    assert caught.value.known == KNOWN
    with pytest.raises(UnknownOption):
        await session.generate({"prompt": "Hi", "grammar": 'root ::= "a"'})
    with pytest.raises(NotLocal):
        await session.generate({"prompt": "Turn it up", "mode": "assistant"})
    assert not server.asked


def failure(frames: list[dict[str, Any]]) -> Any:
    assert [frame["type"] for frame in frames[-2:]] == ["error", "end"] and frames[-1]["reason"] == "error"
    return of_code(frames[-2]["code"], frames[-2]["message"])


BAD: dict[str, tuple[list[bytes], str]] = {
    "an endless line": ([b"data: ", *[b"x" * 65536] * 40], "more than"),
    "not JSON": ([b"data: {oops\n\n"], "not JSON"),
    "not UTF-8": ([b"data: \xff\xfe\n\n"], "UTF-8"),
    "a call of a tool": ([delta(tool_calls=[{"function": {"name": "rm", "arguments": "/"}}])], "tool"),
    "a huge piece": ([delta(content="x" * (1 << 20))], "more than"),
    "an endless answer": ([delta(content="x" * 500_000)] * 5, "more than"),
    "no end": ([delta(content="x")], "breaks off"),
    "no end but a reason": ([delta(content="x"), delta("stop")], "breaks off"),
    "no reason": ([delta(content="x"), DONE], "without a reason"),
    "a filter's end": ([delta(content="x"), delta("content_filter"), DONE], "content_filter"),
    "an error in the midst": ([delta(content="x"), event({"error": {"message": "gone"}})], "gone"),
    "tokens by the trillion": ([event({"choices": [], "usage": {"prompt_tokens": 10**12}})], "tokens"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_makes_no_answer_is_an_error_and_the_worker_goes_on(
    server: ChatServer, session: Session, case: str
) -> None:
    pieces, reason = BAD[case]
    server.says(*pieces)
    found = failure(await ask(session))
    assert isinstance(found, RemoteFailed) and reason in found.message()
    assert not session.conversation.entries, "a broken answer entered the conversation"
    server.says(*answer("Yes."))
    assert text(await ask(session)) == "Yes."


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b'{"error": {"message": "bad key %s"}}' % TOKEN.encode(), "401"),
        (404, b'{"error": {"message": "no model big"}}', "no model big"),
        (429, b"<html>\x1b[31mbusy</html>", "429"),
        (500, b"x" * 100_000, "500"),
        (302, b"", "redirects"),
    ],
)
async def test_a_refusal_is_told_without_the_token(
    server: ChatServer, session: Session, status: int, body: bytes, words: str
) -> None:
    server.status, server.headers = status, {"Location": f"{server.url}/elsewhere"}
    server.says(body)
    found = failure(await ask(session))
    assert isinstance(found, RemoteFailed) and words in found.message()
    assert TOKEN not in found.message() and len(found.message()) < 600
    assert len(server.asked) == 1, "a redirect was followed, or a refusal asked again"


async def test_what_is_no_stream_is_refused(server: ChatServer, session: Session) -> None:
    server.headers = {"Content-Type": "application/json"}
    assert isinstance(failure(await ask(session)), RemoteFailed)
    server.headers = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
    assert isinstance(failure(await ask(session)), RemoteFailed)


async def test_a_server_that_is_not_there_is_said_not_to_be(model: RemoteModel, pool: EnginePool) -> None:
    gone = RemoteModel("gone", "", "http://127.0.0.1:9/v1", "x")
    found = failure(await ask(Session(gone, pool.acquire)))
    assert isinstance(found, RemoteUnreachable) and "127.0.0.1:9" in found.message()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for this machine that no system trusts, with its key in the same file."""
    path = tmp_path / "server.pem"
    subject = ["-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    made = ["-keyout", path, "-out", tmp_path / "certificate.pem"]
    subprocess.run(["openssl", "req", *kind, *subject, *made], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "certificate.pem").read_bytes())
    return path


async def test_a_server_whose_certificate_is_not_trusted_gets_nothing(
    certificate: Path, pool: EnginePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("FLEET_TOKEN", TOKEN)
    with serve(context) as encrypted:
        model = RemoteModel("tls", "", encrypted.url, "x", token_env="FLEET_TOKEN")
        found = failure(await ask(Session(model, pool.acquire)))
        assert isinstance(found, RemoteUnreachable) and "CERTIFICATE_VERIFY_FAILED" in found.message()
        assert not encrypted.asked
        await pool.unload(model)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert text(await ask(Session(model, pool.acquire))) == "Hello."


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ("", 0o600, "no token"),
        ("a b", 0o600, "no spaces"),
        ("ok", 0o604, "other users"),
        (None, 0, "No such"),
    ],
)
async def test_a_token_that_cannot_be_one_or_that_others_may_read_is_an_error(
    model: RemoteModel, pool: EnginePool, content: str | None, mode: int, reason: str
) -> None:
    assert model.token_file is not None
    model.token_file.unlink()
    if content is not None:
        model.token_file.write_text(content)
        model.token_file.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        await pool.acquire(model)
    assert reason in caught.value.reason


async def test_the_token_can_come_from_the_environment_and_is_shown_nowhere(
    server: ChatServer, pool: EnginePool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("FLEET_TOKEN", TOKEN)
    monkeypatch.setenv("OTHER_TOKEN", "not-yours")
    model = RemoteModel("fleet", "Fleet", server.url, "big", token_env="FLEET_TOKEN")
    frames = await ask(Session(model, pool.acquire))
    assert server.asked[0].headers["Authorization"] == f"Bearer {TOKEN}"
    (loaded,) = pool.loaded()
    process = Path(f"/proc/{loaded.pid}")
    assert "libllama" not in (process / "maps").read_text()
    assert TOKEN not in (process / "cmdline").read_text() + str(frames) + str(loaded) + caplog.text
    assert b"OTHER_TOKEN" not in (process / "environ").read_bytes()


async def test_a_proxy_does_not_come_between_this_machine_and_itself(
    server: ChatServer, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert text(await ask(session)) == "Hello."


# --- ends and slow readers ----------------------------------------------------------------------------


async def begun(session: Session) -> Any:
    generation = await session.generate({"prompt": "Hi"})
    generation.stream.setblocking(False)
    data = b""
    while b'"type":"text"' not in data:
        data += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(generation.stream, 4096), 30)
    return generation


async def test_a_cancel_closes_the_connection_at_once(server: ChatServer, session: Session) -> None:
    server.hangs_after(delta(content="word"))
    generation = await begun(session)
    generation.cancel()
    frames = await frames_of(generation)
    assert frames[-1] == {"type": "end", "reason": "cancelled"}
    assert await asyncio.to_thread(server.asked[0].left.wait, 2), "the server goes on computing"
    outcome = await generation.finished
    assert (outcome.reason, outcome.text) == ("cancelled", "word")


async def test_a_client_that_leaves_closes_the_connection(server: ChatServer, session: Session) -> None:
    server.hangs_after(delta(content="word"))
    (await begun(session)).stream.close()
    assert await asyncio.to_thread(server.asked[0].left.wait, 2)


async def test_unloading_ends_the_answer_cancelled(
    server: ChatServer, model: RemoteModel, session: Session, pool: EnginePool
) -> None:
    server.hangs_after(delta(content="word"))
    generation = await begun(session)
    await asyncio.wait_for(pool.unload(model), 5)
    assert (await frames_of(generation))[-1] == {"type": "end", "reason": "cancelled"}
    assert not pool.loaded()


async def test_a_worker_that_is_killed_ends_its_streams_with_an_error(
    server: ChatServer, session: Session, pool: EnginePool
) -> None:
    server.hangs_after(delta(content="word"))
    generation = await begun(session)
    os.kill(pool.loaded()[0].pid, 9)
    frames = await frames_of(generation)
    assert [frame.get("code") for frame in frames[-2:]] == ["engine.worker-died", None]
    server.says(*answer("Yes."))
    assert text(await ask(session)) == "Yes."


async def test_a_reader_that_is_slow_holds_its_server_up_and_nobody_else(
    server: ChatServer, model: RemoteModel, pool: EnginePool
) -> None:
    total, slow = 28 << 20, threading.Event()

    def reply(asked: Asked) -> Iterator[bytes]:
        if asked.body["messages"][-1]["content"] != "slow":
            yield from answer("Quick.")
            return
        slow.set()
        piece = delta(content="x" * 4000) + b": " + b"-" * 60000 + b"\n\n"
        for _ in range(total // len(piece)):
            yield piece
        yield from answer("Done.")

    server.reply = reply
    waiting = await Session(model, pool.acquire).generate({"prompt": "slow"})
    waiting.stream.setsockopt(1, 8, 4096)
    assert await asyncio.to_thread(slow.wait, 20)
    sent = -1
    async with asyncio.timeout(30):
        while sent != server.asked[0].sent:  # until all buffers are full
            sent = server.asked[0].sent
            await asyncio.sleep(0.5)
    assert sent < total // 2, "the server was read ahead of the client"
    assert text(await ask(Session(model, pool.acquire))) == "Quick."
    assert text(await frames_of(waiting)).endswith("Done.")


# --- history ------------------------------------------------------------------------------------------

TOO_LONG = (
    b'{"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 900, "n_ctx": 512}}'
)


def limited(server: ChatServer, most: int, refusal: bytes = TOO_LONG) -> None:
    """Have the server refuse more than ``most`` messages."""

    def fits(asked: Asked) -> bool:
        return len(asked.body["messages"]) <= most

    server.judge = lambda asked: 200 if fits(asked) else 400
    server.reply = lambda asked: iter(answer("Yes.") if fits(asked) else [refusal])


async def test_what_does_not_fit_is_left_out_oldest_first_and_said(
    server: ChatServer, model: RemoteModel, pool: EnginePool
) -> None:
    limited(server, 4)
    turns = [Message("user", "q"), Message("assistant", "a")] * 8
    session = Session(model, pool.acquire)
    session.set_context([Entry(Message("system", "s")), *map(Entry, turns)])
    frames = await ask(session, "Last")
    (trimmed,) = [frame for frame in frames if frame.get("code") == "trimmed"]
    sent = server.asked[-1].body["messages"]
    assert [sent[0]["role"], sent[-1]["content"]] == ["system", "Last"] and sent[1]["role"] == "user"
    assert trimmed["messages"] == 18 - len(sent)
    assert len(server.asked) <= 5
    before = len(server.asked)
    await ask(session, "More")
    assert len(server.asked[before].body["messages"]) == len(sent) + 2, "it began anew"


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (TOO_LONG, ContextFull),
        (b'{"error": {"code": "context_length_exceeded", "message": "too long"}}', RemoteFailed),
        (b'{"error": {"code": 400, "message": "This model\'s maximum context length is 8"}}', RemoteFailed),
    ],
)
async def test_what_may_not_be_left_out_is_an_error(
    server: ChatServer, model: RemoteModel, pool: EnginePool, refusal: bytes, expected: type[Exception]
) -> None:
    limited(server, 0, refusal)
    session = Session(model, pool.acquire, overflow="refuse")
    session.set_context([Entry(Message("user", "q")), Entry(Message("assistant", "a"))])
    assert isinstance(failure(await ask(session)), expected)
    assert len(server.asked) == 1
    assert isinstance(failure(await ask(Session(model, pool.acquire))), expected)


# --- vectors ------------------------------------------------------------------------------------------


async def vectors(pool: EnginePool, model: RemoteModel, texts: list[str]) -> list[list[float]]:
    return await pool.ask(model, lambda engine: engine.embed(texts))


async def test_vectors_come_in_order_and_of_length_one(
    server: ChatServer, model: RemoteModel, pool: EnginePool
) -> None:
    data = b'{"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4.0]}]}'
    server.says(data)
    first, second = await vectors(pool, model, ["a", "b"])
    assert first == pytest.approx([0.6, 0.8]) and second == [0.0, 1.0]
    assert server.asked[0].path == "/v1/embeddings" and server.asked[0].body["input"] == ["a", "b"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"data": []}',
        b'{"data": [{"index": 0, "embedding": []}]}',
        b'{"data": [{"index": 1, "embedding": [1]}]}',
        b'{"data": [{"index": 0, "embedding": [0, 0]}]}',
        b'{"data": [{"index": 0, "embedding": [NaN]}]}',
        b'{"data": [{"index": 0, "embedding": [1e999]}]}',
        b'{"data": [{"index": 0, "embedding": ["1"]}]}',
        b"[]",
    ],
)
async def test_what_are_no_vectors_is_refused(
    server: ChatServer, model: RemoteModel, pool: EnginePool, data: bytes
) -> None:
    server.says(data)
    with pytest.raises(RemoteFailed):
        await vectors(pool, model, ["a"])


async def test_json_that_would_fill_the_memory_fails_alone(
    server: ChatServer, model: RemoteModel, pool: EnginePool
) -> None:
    server.says(b'{"data": [' + b"[]," * (20 << 20) + b"[]]}")
    with pytest.raises(RemoteFailed, match="memory"):
        await vectors(pool, model, ["a"])
    server.says(*answer("Yes."))
    assert text(await ask(Session(model, pool.acquire))) == "Yes."


async def test_a_server_that_makes_no_vectors_is_said_to_make_none(
    server: ChatServer, model: RemoteModel, pool: EnginePool
) -> None:
    server.status = 404
    server.says(b"")
    with pytest.raises(UnsupportedModel) as caught:
        await vectors(pool, model, ["a"])
    assert "embeddings" in caught.value.reason
