"""A client of the service that shares no code with it: GLib's GDBus, called through ctypes.

The gdbus and busctl tools connect anew for each call and so cannot hold a session. This is the library
behind gdbus. Prints the frames of one answer, then the error name of a call with a misspelt option.

Usage: gdbus_stream.py ADDRESS PROMPT
"""

from __future__ import annotations

import ctypes
import os
import sys

GIO = ctypes.CDLL("libgio-2.0.so.0")
BUS = b"org.openkylin.GgufEngine1"
CLIENT, MESSAGE_BUS = 1, 8  # GDBusConnectionFlags: authenticate as client, the other side is a message bus


class GError(ctypes.Structure):
    _fields_ = (("domain", ctypes.c_uint32), ("code", ctypes.c_int), ("message", ctypes.c_char_p))


Pointer = ctypes.c_void_p
Error = ctypes.POINTER(GError)
for name, result, arguments in (
    ("g_dbus_connection_new_for_address_sync", Pointer, [ctypes.c_char_p, ctypes.c_int, *[Pointer] * 3]),
    (
        "g_dbus_connection_call_with_unix_fd_list_sync",
        Pointer,
        [Pointer, *[ctypes.c_char_p] * 4, *[Pointer] * 2, ctypes.c_int, ctypes.c_int, *[Pointer] * 4],
    ),
    ("g_variant_parse", Pointer, [Pointer, ctypes.c_char_p, *[Pointer] * 3]),
    ("g_variant_print", ctypes.c_char_p, [Pointer, ctypes.c_int]),
    ("g_variant_get_child_value", Pointer, [Pointer, ctypes.c_size_t]),
    ("g_variant_get_string", ctypes.c_char_p, [Pointer, Pointer]),
    ("g_unix_fd_list_get", ctypes.c_int, [Pointer, ctypes.c_int, Pointer]),
    ("g_dbus_error_get_remote_error", ctypes.c_char_p, [Error]),
):
    function = getattr(GIO, name)
    function.restype, function.argtypes = result, arguments


def call(connection: int, path: bytes, member: str, arguments: str) -> tuple[int, Pointer]:
    """Call a method with ``arguments`` in GVariant's text format; return the reply and its descriptors."""
    interface, method = member.split(".")
    error, descriptors = Error(), Pointer()
    reply = GIO.g_dbus_connection_call_with_unix_fd_list_sync(
        connection,
        BUS,
        path,
        BUS + b"." + interface.encode(),
        method.encode(),
        GIO.g_variant_parse(None, arguments.encode(), None, None, None),
        None,
        0,
        -1,
        None,
        ctypes.byref(descriptors),
        None,
        ctypes.byref(error),
    )
    if not reply:
        raise OSError(GIO.g_dbus_error_get_remote_error(error).decode())
    return reply, descriptors


def main() -> None:
    address, prompt = sys.argv[1:]
    connection = GIO.g_dbus_connection_new_for_address_sync(
        address.encode(), CLIENT | MESSAGE_BUS, None, None, None
    )
    root = b"/org/openkylin/GgufEngine1"
    reply, _ = call(connection, root, "Manager.ListModels", "()")
    print(GIO.g_variant_print(reply, 0).decode())
    reply, _ = call(connection, root, "Manager.CreateSession", "(@a{sv} {},)")
    session = GIO.g_variant_get_string(GIO.g_variant_get_child_value(reply, 0), None)
    quoted = prompt.replace("'", "\\'")
    _, descriptors = call(
        connection, session, "Session.Generate", f"({{'prompt': <'{quoted}'>, 'seed': <7>}},)"
    )
    with os.fdopen(GIO.g_unix_fd_list_get(descriptors, 0, None), encoding="utf-8") as stream:
        for line in stream:
            print(line, end="")
    try:
        call(connection, session, "Session.Generate", "({'promt': <'x'>},)")
    except OSError as error:
        print(error)


if __name__ == "__main__":
    main()
