"""The part of the Actuator interface by which clients bring command catalogues of their own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from dbus_next.validators import is_object_path_valid

from kylin_gguf import call_options
from kylin_gguf.bus import names
from kylin_gguf.bus.root import RootPart
from kylin_gguf.errors import InvalidValue
from kylin_gguf.records import ExecutorAddress

EXECUTOR_PATH = f"{names.ROOT}/Executor"
"""Where an executor's object is unless it says otherwise."""
OPTIONS: Mapping[str, object] = {"executor": EXECUTOR_PATH, "keep_alive": True, "unavailable": []}
"""Options of RegisterCatalogue and their defaults."""


class CatalogueMethods(RootPart):
    """Register, refresh and remove catalogues. Each belongs to the connection that registered it."""

    async def register_catalogue(self, caller: str, name: str, text: str, options: dict[str, Any]) -> None:
        """Method RegisterCatalogue."""
        given = _read_options(options)
        await self.registry.adopt(caller)  # when it leaves, the call is cancelled
        catalogues = self._service.catalogues
        self.registry.on_leave(caller, "catalogues", partial(catalogues.remove_all, caller))
        release = self.registry.hold(caller, "registrations", names.MAX_REGISTRATIONS)
        try:
            executor = ExecutorAddress(caller, given["executor"])
            kept, missing = given["keep_alive"], given["unavailable"]
            await catalogues.register(executor, name, text, keeps_alive=kept, unavailable=missing)
        finally:
            release()

    async def remove_catalogue(self, caller: str, name: str) -> None:
        """Method RemoveCatalogue."""
        self._service.catalogues.remove(caller, name)

    async def update_choices(
        self, caller: str, name: str, source: str, choices: dict[str, list[str]]
    ) -> None:
        """Method UpdateChoices."""
        await self._service.catalogues.update_choices(caller, name, source, choices)

    async def list_catalogues(self, _: str) -> list[dict[str, Any]]:
        """Method ListCatalogues."""
        return self._service.catalogues.listing()


def _read_options(options: Mapping[str, Any]) -> dict[str, Any]:
    call_options.refuse_unknown(options, OPTIONS)
    given = {**OPTIONS, **options}
    path = call_options.text(given, "executor")
    if not is_object_path_valid(path):
        raise InvalidValue("executor", path[:80], "an object path")
    call_options.flag(given, "keep_alive")
    missing = given["unavailable"]
    if not isinstance(missing, list) or not all(isinstance(item, str) for item in missing):
        raise InvalidValue("unavailable", repr(missing)[:80], "a list of ids")
    return given
