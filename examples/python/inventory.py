"""Prints a project's instances and then what becomes of them, as a service account with an API key.

    export VCSTACK_API_URL=https://127.0.0.1:8443 VCSTACK_CA_FILE=var/pki/ca.crt VCSTACK_API_KEY_FILE=ci.key
    python examples/python/inventory.py demo            # the list
    python examples/python/inventory.py demo --follow   # and on, until Ctrl-C

The service account needs the role reader in the project (docs/access.md).
"""

import argparse
import asyncio
import os
import sys
from contextlib import aclosing
from pathlib import Path

from vcstack.apiclient.auth import AuthClient
from vcstack.apiclient.client import ApiClient
from vcstack.apiclient.connection import Connection
from vcstack.apiclient.credentials import ApiKey, KeyCredentials
from vcstack.apiclient.settings import ConnectionSettings
from vcstack.specs.access import EventType
from vcstack.specs.errors import ApiError, Expired
from vcstack.specs.kinds.instance import Instance


def connect() -> ApiClient:
    """Return a client of the API key; its short access tokens are got and renewed as they are needed."""
    settings = ConnectionSettings(
        api_url=os.environ["VCSTACK_API_URL"],
        ca_file=Path(os.environ["VCSTACK_CA_FILE"]),
        user_agent="inventory",
    )
    key = ApiKey.read(Path(os.environ["VCSTACK_API_KEY_FILE"]))
    return ApiClient.connect(settings, KeyCredentials(key, AuthClient(Connection(settings))))


def describe(instance: Instance) -> str:
    """Return a line about an instance."""
    addresses = ", ".join(each.address for each in instance.status.addresses or ()) or "no address"
    return f"{instance.metadata.name}: {instance.status.power_state or 'not observed yet'}, {addresses}"


async def follow(client: ApiClient, project: str, since: str) -> None:
    """Print every change after that version; what was missed too long ago is listed anew."""
    while True:
        try:
            async with aclosing(client.watch(Instance, since=since, project=project)) as events:
                async for event in events:
                    if event.object is not None:
                        gone = event.type is EventType.DELETED
                        print(f"{event.object.metadata.name}: gone" if gone else describe(event.object), flush=True)
        except Expired:
            since = (await client.list(Instance, project=project)).resource_version


async def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project")
    parser.add_argument("--follow", action="store_true", help="go on with what changes")
    arguments = parser.parse_args()
    async with aclosing(connect()) as client:
        try:
            page = await client.list(Instance, project=arguments.project)
            for instance in page.items:
                print(describe(instance), flush=True)
            if arguments.follow:
                await follow(client, arguments.project, page.resource_version)
        except ApiError as error:  # every error says what is wrong in a sentence
            print(f"Error: {error.message}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
