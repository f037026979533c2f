"""The simulated machines, and what the planner does on them."""

from __future__ import annotations

from bench.offload.simulated import machines
from kylin_gguf.offload.plan import Request, plan

from ..offload.headers import dense


def test_every_simulated_machine_gets_a_plan_within_its_means() -> None:
    model = dense(32, layer_bytes=130 << 20)
    found = machines()
    assert len(found) >= 30
    for machine in found.values():
        placement = plan(model, machine, Request(4096))
        free = {device.name: device.memory_free for device in machine.devices}
        assert all(share.memory <= free[share.device] for share in placement.shares)
        assert placement.decode > 0
