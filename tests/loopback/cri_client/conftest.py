"""A fake runtime, alone and behind a real socket."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cri_client.channel import Channel, connect
from cri_client.fake import FakeRuntime, serve_fake


@pytest.fixture
def fake() -> FakeRuntime:
    made = FakeRuntime()
    made.add_image("web:1")
    return made


@pytest.fixture
async def channel(fake: FakeRuntime, tmp_path: Path) -> AsyncIterator[Channel]:
    async with serve_fake(fake, tmp_path / "fake.sock") as endpoint, connect(endpoint, timeout_s=60) as made:
        yield made
