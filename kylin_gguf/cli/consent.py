"""A yes or no from the person at the terminal. Without one, and without a clear yes, it is no."""

from __future__ import annotations

import asyncio
import sys

from kylin_gguf.cli import output
from kylin_gguf.translation import translate as _

YES = ("y", "yes", "是", "好", "好的", "可以")


async def ask(question: str) -> bool:
    """Ask on the terminal; cancelling takes the question back.

    A thread that waits in ``input`` could not be stopped, and would swallow the next line.
    """
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(_("{question} [y/N] ").format(question=output.printable(question)))
    sys.stderr.flush()
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()
    loop.add_reader(sys.stdin, lambda: None if line.done() else line.set_result(sys.stdin.readline()))
    try:
        return (await line).strip().lower() in YES
    finally:
        loop.remove_reader(sys.stdin)
