"""A process that does nothing but sync, to be killed: `sync_forever.py VARIANT`."""

from __future__ import annotations

import asyncio
import sys

from proxy.iptables.backend import IptablesBackend
from tests.kernel.routes_of import many, table


async def _main() -> None:
    backend = IptablesBackend(variant=sys.argv[1])
    await backend.apply(table(*many(20)))
    print("syncing", flush=True)
    while True:
        for count in (300, 20, 500):
            await backend.apply(table(*many(count)))


if __name__ == "__main__":
    asyncio.run(_main())
