"""What other modes left goes in the end, whatever is in the way at first."""

from __future__ import annotations

import pytest

from proxy import modes
from proxy.backend import BackendBusyError
from proxy.ipvs.model import IpvsSettings


async def test_others_are_removed_until_nothing_is_in_the_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[str, str]] = []

    async def remove_one(mode: str, ipvs: IpvsSettings, localnet_note: str) -> None:
        asked.append((mode, ipvs.scheduler))
        if mode == "nftables" and len(asked) < 5:
            raise BackendBusyError("cannot remove the rules: another program is in the way")

    monkeypatch.setattr(modes, "_remove_one", remove_one)
    monkeypatch.setattr(modes, "_FIRST_PAUSE_S", 0.0)
    schedulers = iter(("rr", "wrr", "sh"))
    await modes.leave_others("iptables", lambda: IpvsSettings(scheduler=next(schedulers)))
    assert asked == [(mode, scheduler) for scheduler in ("rr", "wrr", "sh") for mode in ("nftables", "ipvs")]
    assert [record.getMessage() for record in caplog.records] == [
        "rules of another mode stay, trying again: cannot remove the rules: another program is in the way"
    ]
