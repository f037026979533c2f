"""What a model is shown an utterance behind: a task that makes its state there say what is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from kylin_gguf.records import Message

DEPTH = 3 / 4
"""How far up the model the state is taken: the uppermost layers turn what was understood into the next token.
Three models are best between 0.73 and 0.92; of examples that are left out, most are right at 3/4 where the
model was told what there is to choose from."""

# Desktop requests of both languages, some of which want nothing that a desktop does. That the model answers
# alike does not matter: nothing is ever generated, only the state at the answer's beginning is looked at.
_SHOWN = (
    ("声音太吵了", "turn down the volume"),
    ("把蓝牙打开", "turn on bluetooth"),
    ("make the text bigger", "increase the font size"),
    ("昨天我把手机摔了", "nothing"),
    ("换个桌面背景", "change the wallpaper"),
    ("wifi连不上", "open the network settings"),
    ("写一段关于鼠标的话", "nothing, write text"),
    ("how bright is it", "tell the screen brightness"),
)

_TASK = "Say in a few words what the user wants the computer to do"

MAX_LISTED = 1200
"""Bytes of a list of commands: in English some 300 tokens, which are read once after each start. In no
language are they more than ``HiddenStateContext`` has room for."""


def before(commands: Iterable[str]) -> tuple[Message, ...]:
    """Return what utterances come behind if ``commands`` are described so.

    A model that was told what there is to choose from sees an utterance with that in mind. Longer lists than
    MAX_LISTED are left out.
    """
    listed = ", ".join(sorted(commands))
    fits = 0 < len(listed.encode()) <= MAX_LISTED
    task = f"{_TASK}: {listed}, or something else." if fits else f"{_TASK}."
    shown = ((Message("user", said), Message("assistant", is_)) for said, is_ in _SHOWN)
    return (Message("system", task), *chain.from_iterable(shown))
