"""What goes on now: the service, its models, the commands it carried out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kylin_gguf.engine.memory import memory_of
from kylin_gguf.pool import EnginePool
from kylin_gguf.records import Activity

_OF_A_MODEL = ("name", "path", "remote", "pid", "memory", "memory_private", "memory_mapped")


async def read(pool: EnginePool, commands: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON object of ``GetStatistics``, of ``pool``'s models and the ``commands`` of late."""
    models = [
        asdict(model) | {"remote": model.remote or None} | activity.to_json()
        for model, activity in await pool.activity()
    ]
    told = (*_OF_A_MODEL, *Activity().to_json())
    return {
        "pid": os.getpid(),
        "memory": memory_of(os.getpid()).resident,
        "models": [{key: model[key] for key in told} for model in models],
        "power": pool.power.to_json(),
        "commands": commands,
    }
