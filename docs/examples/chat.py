"""A conversation on the terminal, in Python.

python chat.py        begins a conversation and says what it is kept as
python chat.py ID     goes on with that one

One question a line. Ctrl-C stops the answer and not the program; Ctrl-D ends.
"""

import sys

from kylin_gguf.client import BlockingClient, BlockingSession
from kylin_gguf.errors import KylinError


def ask(session: BlockingSession, question: str) -> None:
    """Show one answer."""
    with session.generate(question) as answer:
        while True:
            try:
                for frame in answer:
                    if frame["type"] == "text":
                        print(frame["text"], end="", flush=True)
                    elif frame["type"] == "error":
                        print(frame["message"], file=sys.stderr)
                    elif frame["type"] == "end":
                        print(f"\n({frame['reason']})", flush=True)
                return
            except KeyboardInterrupt:
                answer.cancel()  # the stream then ends by itself, with the reason "cancelled"


def main() -> None:
    """Ask what stdin holds."""
    with BlockingClient() as client:
        session = client.open_session(sys.argv[1]) if sys.argv[1:] else client.create_session(keep=True)
        print(f"This conversation is kept as {session.kept_as()}", file=sys.stderr, flush=True)
        for line in sys.stdin:
            if line.strip():
                ask(session, line.strip())


if __name__ == "__main__":
    try:
        main()
    except KylinError as error:
        sys.exit(error.message())
