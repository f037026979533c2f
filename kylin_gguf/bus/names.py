"""Names on the bus and the limits of its callers. The XML files in ``dbus/`` say what they mean."""

from __future__ import annotations

BUS_NAME = "org.openkylin.GgufEngine1"
ROOT = "/org/openkylin/GgufEngine1"
API_VERSION = 8

MANAGER = f"{BUS_NAME}.Manager"
SESSION = f"{BUS_NAME}.Session"
REQUEST = f"{BUS_NAME}.Request"
JOB = f"{BUS_NAME}.Job"
ACTUATOR = f"{BUS_NAME}.Actuator"
EXECUTOR = f"{BUS_NAME}.Executor"
INTERFACES = (MANAGER, SESSION, REQUEST, JOB, ACTUATOR, EXECUTOR)

ERROR_PREFIX = f"{BUS_NAME}.Error."

SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"

DAEMON = "org.freedesktop.DBus"
DAEMON_PATH = "/org/freedesktop/DBus"
PROPERTIES = "org.freedesktop.DBus.Properties"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
PEER = "org.freedesktop.DBus.Peer"

MAX_SESSIONS = 16
MAX_REGISTRATIONS = 4
"""Unfinished registrations of command catalogues of one connection."""
MAX_RUNNING = 16
"""Running requests, and running jobs, of one connection."""
MAX_KEPT = 16
"""Finished requests and jobs of one connection whose objects stay readable."""
MAX_TEXT = 4 << 20
"""Longest string in a call, in characters: far above any context, far below what hurts."""


def child(kind: str, number: int) -> str:
    """Return the object path of session, request or job ``number``."""
    return f"{ROOT}/{kind}/{number}"
