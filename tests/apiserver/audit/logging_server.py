"""A server whose log goes where a program's goes: logging_server.py FOLDER. It says its address, then serves until
its standard input ends.
"""

import asyncio
import sys
from pathlib import Path

from tests.apiserver.audit.trails import audit_settings
from tests.fakes.master_keys import open_store
from tests.fakes.memory_etcd import MemoryEtcd
from tests.fixtures.api import create_samples, serving
from vcstack.apiserver.audit.settings import AccessLog
from vcstack.apiserver.audit.trail import Trail
from vcstack.clock import SystemClock
from vcstack.pki.installation import ensure_installation
from vcstack.programs.logs import set_up_logging


async def main(folder: Path) -> None:
    set_up_logging("debug")
    installation = ensure_installation(folder)
    etcd = MemoryEtcd()
    async with open_store(etcd) as store:
        trail = Trail(audit_settings(folder), SystemClock(), store.cache)
        async with trail, serving(store, etcd, installation, folder, audit=trail, access_log=AccessLog.ALL) as api:
            await create_samples(api, "Project", "Domain", "User")
            sys.stdout.write(f"{api.url}\n")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
