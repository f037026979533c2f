"""Plain records that cross module borders. Standard library only; all frozen.

Sizes are bytes, durations seconds, rates tokens per second unless a name says otherwise.
"""

from kylin_gguf.records.activity import Activity
from kylin_gguf.records.commands import ADAPTER, Execution, ExecutorAddress, ResultValue
from kylin_gguf.records.conversation import OVERFLOWS, ROLES, Entry, Message, Overflow, Role
from kylin_gguf.records.machine import Device, DeviceKind, FailedPlugin
from kylin_gguf.records.models import (
    SPARE_SEQUENCES,
    InstalledModel,
    KvType,
    LoadedModel,
    LoadMode,
    Model,
    Placement,
    RemoteModel,
    Share,
    Speculation,
    SpeculationWay,
    Use,
)
from kylin_gguf.records.power import Power, PowerMode, SavingState
from kylin_gguf.records.progress import Progress, ProgressCallback, no_progress
from kylin_gguf.records.requests import StatesRequest, Usage
from kylin_gguf.records.sampling import SamplingOptions
from kylin_gguf.records.settings import Settings

__all__ = [
    "ADAPTER",
    "OVERFLOWS",
    "ROLES",
    "SPARE_SEQUENCES",
    "Activity",
    "Device",
    "DeviceKind",
    "Entry",
    "Execution",
    "ExecutorAddress",
    "FailedPlugin",
    "InstalledModel",
    "KvType",
    "LoadMode",
    "LoadedModel",
    "Message",
    "Model",
    "Overflow",
    "Placement",
    "Power",
    "PowerMode",
    "Progress",
    "ProgressCallback",
    "RemoteModel",
    "ResultValue",
    "Role",
    "SamplingOptions",
    "SavingState",
    "Settings",
    "Share",
    "Speculation",
    "SpeculationWay",
    "StatesRequest",
    "Usage",
    "Use",
    "no_progress",
]
