"""A process that records as fast as it can and says what is on the disk, to be killed: writer.py FOLDER."""

import asyncio
import sys
from pathlib import Path

import structlog

from tests.apiserver.audit.trails import audit_settings
from vcstack.apiserver.audit.chain import Chain
from vcstack.apiserver.audit.journal import Journal

CALLERS = 16


async def main(folder: Path) -> None:
    # Beside what is confirmed: one that was killed in the middle of a record is told of in a line of log.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = audit_settings(folder)
    chain = Chain.open(settings.folder, "host", {}, segment_bytes=20_000)
    journal = Journal(chain, settings)

    async def call(number: int) -> None:
        count = 0
        while True:
            name = f"{chain.seq}-{number}-{count}"
            journal.append({"verb": "create", "name": name, "padding": "x" * 200})
            sys.stdout.write(f"{chain.name} {name}\n")
            sys.stdout.flush()
            count += 1
            await asyncio.sleep(0)

    await asyncio.gather(*(call(n) for n in range(CALLERS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
