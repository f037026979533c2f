"""The service, for other Python programs: with asyncio (``Client``) or without (``BlockingClient``).

Both start the service when it does not run, and raise the exceptions of ``kylin_gguf.errors``. A frame of an
answer is a dictionary as docs/dbus-api.md describes it::

    async with await connect() as client:
        session = await client.create_session()
        async for text in (await session.generate("Why is the sky blue?")).texts():
            print(text, end="", flush=True)

    with BlockingClient() as client:
        for text in client.create_session().generate("Why is the sky blue?").texts():
            print(text, end="", flush=True)
"""

from kylin_gguf import config
from kylin_gguf.bus.client import Client
from kylin_gguf.bus.client_session import Answer, ClientSession
from kylin_gguf.client.blocking import BlockingAnswer, BlockingClient, BlockingSession
from kylin_gguf.frames import Frame
from kylin_gguf.records import Entry, Message

__all__ = [
    "Answer",
    "BlockingAnswer",
    "BlockingClient",
    "BlockingSession",
    "Client",
    "ClientSession",
    "Entry",
    "Frame",
    "Message",
    "connect",
]


async def connect(*, start: bool = True) -> Client:
    """Connect to the service; with ``start``, start it when it does not run.

    Raises:
        ServiceUnavailable: it does not run, or could not be started.
    """
    return await Client.connect(config.load(), start=start)
