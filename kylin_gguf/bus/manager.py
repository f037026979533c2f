"""The Manager and Actuator interfaces, on the root object."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kylin_gguf import __version__, call_options
from kylin_gguf.bus import names
from kylin_gguf.bus.catalogues import CatalogueMethods
from kylin_gguf.bus.dispatch import Reply, snake
from kylin_gguf.bus.job import JobObject
from kylin_gguf.bus.registry import Registry
from kylin_gguf.bus.session_methods import SessionMethods

if TYPE_CHECKING:
    from kylin_gguf.jobs import Job
    from kylin_gguf.records import LoadedModel
    from kylin_gguf.service import Service


class RootObject(CatalogueMethods, SessionMethods):
    """``Manager`` and ``Actuator`` around the service; everyone may call it."""

    interfaces = (names.MANAGER, names.ACTUATOR)

    def __init__(self, registry: Registry, service: Service) -> None:
        super().__init__(registry, service)
        self._changed: set[str] = set()
        self._announcing: asyncio.Task[None] | None = None
        service.on_change = self._on_change

    # --- Models -----------------------------------------------------------------------------------

    async def list_models(self, _: str) -> list[dict[str, Any]]:
        """Method ListModels."""
        return await self._service.models()

    async def pull(self, caller: str, name: str, options: dict[str, Any]) -> Reply:
        """Method Pull."""
        call_options.refuse_unknown(options, ())
        return await self._job(caller, lambda: self._service.pull(name))

    async def convert(self, caller: str, source: str, options: dict[str, Any]) -> Reply:
        """Method Convert."""
        return await self._job(caller, lambda: self._service.convert(source, options))

    async def remove(self, _: str, name: str) -> None:
        """Method Remove."""
        await self._service.remove(name)

    async def load(self, caller: str, name: str, options: dict[str, Any]) -> Reply:
        """Method Load."""
        return await self._job(caller, lambda: self._service.load(name, options))

    async def unload(self, _: str, name: str) -> None:
        """Method Unload."""
        await self._service.unload(name)

    async def prewarm(self, _: str, name: str) -> None:
        """Method Prewarm."""
        await self._service.prewarm(name)

    async def plan(self, _: str, name: str, options: dict[str, Any]) -> str:
        """Method Plan."""
        return json.dumps(await self._service.plan(name, options), ensure_ascii=False)

    async def get_statistics(self, caller: str) -> dict[str, Any]:
        """Method GetStatistics."""
        await self._check_user(caller)
        return await self._service.statistics()

    async def embed(
        self, caller: str, name: str, texts: list[str], options: dict[str, Any]
    ) -> list[list[float]]:
        """Method Embed."""
        call_options.refuse_unknown(options, ())
        await self.registry.adopt(caller)  # when it leaves, the call is cancelled
        release = self.registry.hold(caller, "requests", names.MAX_RUNNING)
        try:
            return await self._service.embed(name, texts)
        finally:
            release()

    async def _job(self, caller: str, begin: Callable[[], Job[Any]]) -> Reply:
        await self.registry.adopt(caller)
        release = self.registry.hold(caller, "jobs", names.MAX_RUNNING)
        try:
            job = begin()
        except BaseException:
            release()
            raise
        published = self.registry.add(JobObject(self.registry, caller, job, release))
        return Reply((published.path,), sent=published.start)

    # --- Properties -------------------------------------------------------------------------------

    async def get_version(self) -> str:
        """Property Version."""
        return __version__

    async def get_api_version(self) -> int:
        """Property ApiVersion."""
        return names.API_VERSION

    async def get_loaded_models(self) -> list[dict[str, Any]]:
        """Property LoadedModels."""
        return [_described(model) for model in self._service.loaded()]

    async def get_default_model(self) -> str:
        """Property DefaultModel."""
        return self._service.default_model()

    async def get_devices(self) -> list[dict[str, Any]]:
        """Property Devices."""
        return await self._service.devices()

    def _on_change(self, name: str) -> None:
        self._changed.add(name)
        if self._announcing is None or self._announcing.done():
            self._announcing = asyncio.get_running_loop().create_task(self._announce())

    async def _announce(self) -> None:
        while self._changed:
            name = self._changed.pop()
            value = await getattr(self, f"get_{snake(name)}")()
            self.registry.announce(self, names.MANAGER, {name: value})

    # --- Actuator ---------------------------------------------------------------------------------

    async def interpret(self, _: str, utterance: str, options: dict[str, Any]) -> dict[str, Any]:
        """Method Interpret."""
        return await self._service.interpret(utterance, options)

    async def execute(
        self, caller: str, command: str, arguments: dict[str, Any], options: dict[str, Any]
    ) -> dict[str, Any]:
        """Method Execute."""
        release = self.registry.hold(caller, "commands", names.MAX_RUNNING)
        try:
            return await self._service.execute(command, arguments, options)
        finally:
            release()

    async def list_commands(self, _: str) -> list[dict[str, Any]]:
        """Method ListCommands."""
        return self._service.commands()


def _described(model: LoadedModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "path": model.path,
        "local": not model.remote,
        "remote": model.remote or None,
        "pid": model.pid,
        "load_s": round(model.load_s, 3),
        "memory": model.memory,
        "memory_private": model.memory_private,
        "memory_mapped": model.memory_mapped,
        "placement": model.placement.to_json() if model.placement else None,
        "speculation": model.speculation.to_json(),
        "buffers": model.buffers,
    }
