"""The control channel: messages and descriptors arrive in pairs however the bytes are cut."""

from __future__ import annotations

import os
import socket

import pytest

from kylin_gguf.engine import channel


def test_descriptors_stay_with_their_messages() -> None:
    ours, theirs = socket.socketpair()
    reads, writes = zip(*(os.pipe() for _ in range(3)), strict=True)
    for number, descriptor in enumerate(writes):
        channel.send(ours, {"op": "cancel", "id": number})
        line = channel.encode({"op": "generate", "id": number, "fd": True})
        socket.send_fds(ours, [line[:1]], [descriptor])
        ours.sendall(line[1:])
        os.close(descriptor)
    ours.close()
    reader, received = channel.Reader(theirs), []
    with pytest.raises(EOFError):
        while True:
            received += reader.receive()
    carried = [(payload["id"], descriptor) for payload, descriptor in received if descriptor is not None]
    assert [number for number, _ in carried] == [0, 1, 2]
    assert [payload["op"] for payload, _ in received] == ["cancel", "generate"] * 3
    for number, descriptor in carried:
        assert not os.get_inheritable(descriptor)
        os.write(descriptor, bytes([number]))
        os.close(descriptor)
        assert os.read(reads[number], 1) == bytes([number])
        os.close(reads[number])
    theirs.close()


def test_a_message_cut_in_two_waits_for_its_end() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reader = channel.Reader(theirs)
        line = channel.encode({"op": "cancel", "id": 7})
        ours.sendall(line[:5])
        assert reader.receive() == []
        ours.sendall(line[5:])
        assert reader.receive() == [({"op": "cancel", "id": 7}, None)]
