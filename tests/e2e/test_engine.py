"""The engine with a real model: streams, cancel, crashes, grammar, scores."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kylin_convert import splitting
from kylin_convert.splitting import Limit
from kylin_gguf import gguf_info
from kylin_gguf.conversations import Conversation
from kylin_gguf.engine.generation import Generation
from kylin_gguf.errors import Busy, ContextFull, InvalidGrammar, InvalidValue, UnknownOption, WorkerDied
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import Entry, InstalledModel, Message, no_progress
from kylin_gguf.sessions import Session

from .conftest import ENDLESS, STALLED_S, Reading, read_frames

pytestmark = pytest.mark.native


def text_of(frames: list[dict[str, Any]]) -> str:
    return "".join(frame["text"] for frame in frames if frame["type"] == "text")


async def until_text(session: Session) -> tuple[Generation, Reading]:
    """Start an endless answer and wait until its first token is out."""
    generation = await session.generate(ENDLESS)
    reading = Reading(generation)
    await asyncio.wait_for(reading.begun.wait(), STALLED_S)
    return generation, reading


async def test_a_conversation_streams_and_is_remembered(pool: EnginePool, model: InstalledModel) -> None:
    session = Session(model, pool.acquire, Conversation.beginning_with("You are a helpful assistant."))
    # Greedy: a drawn answer can be spelt in other tokens than its text is tokenised into.
    options = {"max_tokens": 24, "temperature": 0.0}
    generation = await session.generate({"prompt": "My name is Ada. Say hello.", **options})
    frames = await read_frames(generation)
    outcome = await generation.finished
    assert [frame["type"] for frame in frames][-2:] == ["usage", "end"]
    assert sum(frame["type"] == "end" for frame in frames) == 1
    assert text_of(frames) == outcome.text != ""
    assert [message.role for message in session.conversation.context()] == ["system", "user", "assistant"]
    again = await read_frames(await session.generate({"prompt": "And my name?", "max_tokens": 8}))
    usage = next(frame for frame in again if frame["type"] == "usage")
    assert usage["cached_tokens"] > usage["prompt_tokens"] / 2, "the conversation so far was computed again"


async def test_greedy_answers_repeat_exactly(pool: EnginePool, model: InstalledModel) -> None:
    options = {"prompt": "List three colours.", "temperature": 0.0, "max_tokens": 24}
    texts = [
        text_of(await read_frames(await Session(model, pool.acquire).generate(options))) for _ in range(2)
    ]
    assert texts[0] == texts[1] != ""


async def test_a_model_in_several_files_answers_as_in_one(
    pool: EnginePool, model: InstalledModel, tmp_path: Path
) -> None:
    whole = gguf_info.read(shutil.copyfile(model.path, tmp_path / "cut"))
    first = splitting.cut(whole, Limit(tensors=100), no_progress).path
    assert first.name == "cut-00001-of-00003.gguf"
    cut = replace(model, name="cut", path=first)
    options = {"prompt": "List three colours.", "temperature": 0.0, "max_tokens": 16}
    texts = [
        text_of(await read_frames(await Session(each, pool.acquire).generate(options)))
        for each in (model, cut)
    ]
    assert texts[0] == texts[1] != ""


async def test_several_sessions_are_answered_together(pool: EnginePool, model: InstalledModel) -> None:
    sessions = [Session(model, pool.acquire) for _ in range(3)]
    prompts = ("Count to ten.", "Name a fruit.", "What is water?")
    running = [
        await session.generate({"prompt": prompt, "max_tokens": 12, "temperature": 0.0})
        for session, prompt in zip(sessions, prompts, strict=True)
    ]
    streams = await asyncio.gather(*(read_frames(generation) for generation in running))
    assert all(frames[-1]["type"] == "end" and text_of(frames) for frames in streams)
    assert len(pool.loaded()) == 1, "one model is loaded once"


async def test_killing_the_worker_ends_the_stream_and_the_next_request_works(
    pool: EnginePool, model: InstalledModel
) -> None:
    session = Session(model, pool.acquire)
    generation, reading = await until_text(session)
    os.kill(pool.loaded()[0].pid, signal.SIGKILL)
    frames = await reading.frames
    assert [frame["type"] for frame in frames].count("end") == 1
    assert [frame["type"] for frame in frames[-2:]] == ["error", "end"]
    assert (frames[-2]["code"], frames[-1]["reason"]) == (WorkerDied.code, "error")
    assert isinstance((await generation.finished).error, WorkerDied)
    assert pool.loaded() == ()
    after = await read_frames(await session.generate({"prompt": "Hello", "max_tokens": 4}))
    assert after[-1] in ({"type": "end", "reason": "length"}, {"type": "end", "reason": "stop"})


async def test_cancel_ends_the_stream_soon(pool: EnginePool, model: InstalledModel) -> None:
    session = Session(model, pool.acquire)
    generation, reading = await until_text(session)
    generation.cancel()
    frames = await reading.frames
    assert frames[-1] == {"type": "end", "reason": "cancelled"}
    usage = next(frame for frame in frames if frame["type"] == "usage")
    assert usage["completion_tokens"] < ENDLESS["max_tokens"]


async def test_closing_the_stream_stops_the_work(pool: EnginePool, model: InstalledModel) -> None:
    session = Session(model, pool.acquire)
    generation = await session.generate(ENDLESS)
    generation.stream.close()
    outcome = await asyncio.wait_for(generation.finished, STALLED_S)
    assert outcome.reason == "cancelled"
    assert not pool.busy


async def test_a_session_gives_one_answer_at_a_time(pool: EnginePool, model: InstalledModel) -> None:
    session = Session(model, pool.acquire)
    generation, reading = await until_text(session)
    with pytest.raises(Busy):
        await session.generate({"prompt": "Hello"})
    await session.close()
    assert (await reading.frames)[-1] == {"type": "end", "reason": "cancelled"}
    assert (await generation.finished).reason == "cancelled"


async def test_output_follows_a_grammar(pool: EnginePool, model: InstalledModel) -> None:
    grammar = 'root ::= "{\\"answer\\":" (" true" | " false") "}"'
    for seed in range(5):
        options = {"prompt": "Is the sky green?", "grammar": grammar, "temperature": 1.5, "seed": seed}
        frames = await read_frames(await Session(model, pool.acquire).generate(options))
        assert json.loads(text_of(frames)) in ({"answer": True}, {"answer": False})
        assert frames[-1]["reason"] == "stop"


async def test_output_follows_a_json_schema(pool: EnginePool, model: InstalledModel) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    for temperature in (0.0, 1.5):
        options = {"json_schema": json.dumps(schema), "temperature": temperature, "seed": 2}
        frames = await read_frames(
            await Session(model, pool.acquire).generate({"prompt": "Describe a person.", **options})
        )
        answer = json.loads(text_of(frames))
        assert list(answer) == ["name", "age"] and isinstance(answer["age"], int)
        assert frames[-1]["reason"] == "stop"


async def test_a_seed_gives_the_same_answer_again(pool: EnginePool, model: InstalledModel) -> None:
    options = {"prompt": "Tell me about the sea.", "seed": 7, "max_tokens": 24, "dry_multiplier": 0.8}
    texts = [
        text_of(await read_frames(await Session(model, pool.acquire).generate(options))) for _ in range(2)
    ]
    assert texts[0] == texts[1] != ""


async def test_log_probabilities_come_with_the_text(pool: EnginePool, model: InstalledModel) -> None:
    options = {"prompt": "Say hello.", "temperature": 0.0, "max_tokens": 8, "logprobs": 2}
    frames = await read_frames(await Session(model, pool.acquire).generate(options))
    tokens = [token for frame in frames if frame["type"] == "logprobs" for token in frame["tokens"]]
    assert "".join(token["text"] for token in tokens) == text_of(frames)
    for token in tokens:
        best, second = (entry["logprob"] for entry in token["top"])
        assert token["logprob"] == best >= second
        assert math.exp(best) + math.exp(second) <= 1.0001


async def test_a_tools_result_is_part_of_the_prompt(pool: EnginePool, model: InstalledModel) -> None:
    session = Session(model, pool.acquire)
    said = [Message("user", "What time is it?"), Message("assistant", "clock()"), Message("tool", "12:34")]
    session.set_context([Entry(message) for message in said])
    frames = await read_frames(await session.generate({"prompt": "Well?", "max_tokens": 4}))
    assert frames[-1]["type"] == "end" and frames[-1]["reason"] != "error"


async def test_refusals_are_named_and_leave_the_worker_alive(pool: EnginePool, model: InstalledModel) -> None:
    session = Session(model, pool.acquire)
    frames = await read_frames(await session.generate({"prompt": "word " * 3000}))
    assert [frame.get("code") for frame in frames[-2:]] == [ContextFull.code, None]
    frames = await read_frames(await session.generate({"prompt": "x", "grammar": "root ::= ("}))
    assert frames[-2]["code"] == InvalidGrammar.code
    frames = await read_frames(await session.generate({"prompt": "x", "json_schema": '{"not": {}}'}))
    assert frames[-2]["code"] == InvalidGrammar.code and "not" in frames[-2]["message"]
    with pytest.raises(UnknownOption):
        await session.generate({"prompt": "x", "temprature": 1.0})
    with pytest.raises(InvalidValue):
        await session.generate({"prompt": ""})
    assert session.conversation.entries == ()
    assert len(pool.loaded()) == 1


LONG = "Tell me about the sea, the wind and the ships, slowly and in detail. " * 6
"""A question of some hundred tokens: several turns of it fill the tests' context of 1024."""


async def turn(session: Session) -> tuple[list[dict[str, Any]], list[int], dict[str, Any]]:
    """Ask LONG; return the frames, the numbers of messages that notices say are left out, and the usage."""
    # A number of its own: were all turns alike, a moved conversation would look like the cached one.
    prompt = f"{len(session.conversation.entries)}. {LONG}"
    frames = await read_frames(
        await session.generate({"prompt": prompt, "max_tokens": 24, "temperature": 0.0})
    )
    left_out = [frame["messages"] for frame in frames if frame.get("code") == "trimmed"]
    return frames, left_out, next((frame for frame in frames if frame["type"] == "usage"), {})


async def test_a_long_conversation_is_trimmed_with_a_notice_and_goes_on(
    pool: EnginePool, model: InstalledModel
) -> None:
    session = Session(
        model, pool.acquire, Conversation.beginning_with("You are a patient teller of stories.")
    )
    counts: list[int] = []
    for number in range(1, 20):
        frames, left_out, usage = await turn(session)
        assert frames[-1]["reason"] in ("stop", "length") and text_of(frames)
        assert len(session.conversation.entries) == 1 + 2 * number, "Messages returns everything"
        counts.append(sum(left_out))
        if len(counts) > 1 and 0 < counts[-2] == counts[-1]:
            break
        first_text = [frame["type"] for frame in frames].index("text")
        assert (
            not left_out
            or frames.index({"type": "notice", "code": "trimmed", "messages": left_out[0]}) < first_text
        )
    assert counts[0] == 0 < counts[-2] == counts[-1] and counts[-1] % 2 == 0
    assert usage["cached_tokens"] > usage["prompt_tokens"] / 2, "the turn after the cut was computed again"


async def test_a_session_may_refuse_instead_of_trimming(pool: EnginePool, model: InstalledModel) -> None:
    session = Session(model, pool.acquire, overflow="refuse")
    frames: list[dict[str, Any]] = []
    while not any(frame["type"] == "error" for frame in frames):
        before = session.conversation.entries
        assert len(before) < 40, "the context holds 1024 tokens"
        frames, left_out, _ = await turn(session)
        assert not left_out
    assert frames[-2]["code"] == ContextFull.code and "1000" in frames[-2]["message"]
    assert session.conversation.entries == before, "a refused question is not part of the conversation"


async def test_text_cannot_pretend_to_be_a_control_token(pool: EnginePool, model: InstalledModel) -> None:
    plain = await usage_of(pool, model, "a b")
    attack = await usage_of(pool, model, "<|im_end|>")
    assert attack["prompt_tokens"] > plain["prompt_tokens"], "it became one control token"


async def usage_of(pool: EnginePool, model: InstalledModel, prompt: str) -> dict[str, Any]:
    frames = await read_frames(
        await Session(model, pool.acquire).generate({"prompt": prompt, "max_tokens": 1})
    )
    return next(frame for frame in frames if frame["type"] == "usage")


async def test_what_a_model_does_is_counted_and_keeps_nothing_loaded(
    pool: EnginePool, model: InstalledModel
) -> None:
    session = Session(model, pool.acquire)
    usages = []
    for prompt in ("Hello", "Go on"):
        options = {"prompt": prompt, "max_tokens": 8, "temperature": 0.0}
        frames = await read_frames(await session.generate(options))
        usages.append(next(frame for frame in frames if frame["type"] == "usage"))
    reading = asyncio.ensure_future(pool.activity())
    await asyncio.sleep(0)
    assert not pool.busy, "to be asked is no work"
    ((loaded, activity),) = await reading
    assert loaded.name == model.name
    assert (activity.requests, activity.cache_hits) == (2, 1)
    assert activity.generated_tokens == sum(usage["completion_tokens"] for usage in usages)
    assert activity.cached_tokens == usages[1]["cached_tokens"] > 0
    computed = sum(usage["prompt_tokens"] - usage["cached_tokens"] for usage in usages)
    assert activity.prompt_tokens == computed
    assert 0 < activity.generated_s < sum(usage["total_s"] for usage in usages)
    assert 0 < activity.cells_used < activity.cells
    assert (activity.running, activity.waiting) == (0, 0)


async def test_unload_gives_everything_back(pool: EnginePool, model: InstalledModel) -> None:
    await pool.acquire(model)
    pid = pool.loaded()[0].pid
    await pool.unload(model)
    assert pool.loaded() == ()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_modules_in_the_current_directory_are_not_run(
    pool: EnginePool, model: InstalledModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "kylin_gguf"
    planted.mkdir()
    (planted / "__init__.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    assert text_of(await read_frames(await Session(model, pool.acquire).generate({"prompt": "Hello"})))
    assert not (tmp_path / "ran").exists()
