"""Nobody forges a line of the log or of the trail, whatever a request has in it and wherever."""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import pytest

from tests.apiserver.audit.trails import lines_of, verified

LINE = '{"event": "forged", "subject": "user:root", "outcome": "Allowed"}'
EVILS = (
    f"a\n{LINE}\n", f"a\r{LINE}", f"a\r\n{LINE}", f'a"}}\n{LINE}', f"a\u2028{LINE}", f"a\u2029{LINE}", f"a\x85{LINE}",
    f"a\x0b{LINE}", f"a\x0c{LINE}", "a\x1b[2J\x1b[1;1Hroot", "a\x9b2J", "a\u202etoor", "a\u200btoor", "a\x00b",
    "a\x7fb", "a\ufeffb",
)  # fmt: skip
NETWORKS = "/api/v1/projects/demo/networks"


@dataclass
class Forged:
    """What was left of the requests."""

    requests: int
    log: list[str]
    folder: Path


def send_all(http: httpx2.Client, evil: str) -> int:
    """Put the text wherever a request takes one; return how many requests that were."""
    path = quote(evil, safe="")
    body: dict[str, Any] = {"metadata": {"name": evil, "labels": {evil: evil}, "annotations": {"a": evil}}, "spec": {}}
    header = "".join(c if " " <= c <= "~" or "\xa0" <= c <= "\xff" else "?" for c in evil)
    told = (
        http.get(f"/{path}"),
        http.get(f"/api/v1/{path}"),
        http.get(f"{NETWORKS}/{path}"),
        http.get(f"/api/v1/projects/{path}/networks"),
        http.get(f"{NETWORKS}/web/{path}"),
        http.get(NETWORKS, params={"labelSelector": evil, "fieldSelector": evil, evil: evil}),
        http.delete(f"{NETWORKS}/{path}"),
        http.post(NETWORKS, json=body),
        http.post(NETWORKS, json={"metadata": {"name": "x"}, "spec": {evil: evil, "description": evil}}),
        http.post(f"{NETWORKS}?fieldManager={path}", json={"metadata": {"name": "y"}, "spec": {}}),
        http.post(NETWORKS, content=evil.encode(), headers={"content-type": "application/yaml"}),
        http.post("/api/v1/auth/login", json={"user": evil, "password": evil}),
        http.post("/api/v1/auth/token", json={"keyId": evil, "secret": evil}),
        http.post("/api/v1/auth/refresh", json={"refreshToken": evil}),
        http.post("/api/v1/join", json={"token": evil, "hostName": evil, "csr": evil}),
        http.post("/api/v1/access/review", json={"verb": "get", "kind": evil, "subject": evil, "name": evil}),
        http.get(NETWORKS, headers={"user-agent": header.encode("latin-1"), "x-request-id": header.encode("latin-1")}),
        http.get(NETWORKS, headers={"authorization": b"Bearer " + header.encode("latin-1")}),
        http.request("GET", NETWORKS, headers={"origin": header.encode("latin-1"), "x-forwarded-for": b"9.9.9.9"}),
    )
    assert all(answer.status_code != 500 for answer in told), [a.text for a in told if a.status_code == 500]
    return len(told)


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Forged:
    folder = tmp_path_factory.mktemp("forged")
    log = folder / "log"
    with log.open("wb") as written:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.apiserver.audit.logging_server", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=written, text=True, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            assert urlsplit(url).port, log.read_text()
            token = next(folder.rglob("admin-token")).read_text()
            ca = next(folder.rglob("ca.crt"))
            context = ssl.create_default_context(cafile=str(ca))
            headers = {"authorization": f"Bearer {token}"}
            with httpx2.Client(base_url=url, verify=context, trust_env=False, headers=headers, timeout=60) as http:
                count = sum(send_all(http, evil) for evil in EVILS)
            server.communicate("", timeout=60)
        finally:
            server.kill()
            server.wait()
    return Forged(count, log.read_bytes().decode("ascii").split("\n"), folder)


def test_each_line_of_the_log_is_one_entry_of_ours(forged: Forged) -> None:
    *lines, last = forged.log
    assert last == ""
    assert all(line.isprintable() for line in lines)
    entries = [json.loads(line) for line in lines]
    assert all({"event", "level", "timestamp"} <= entry.keys() for entry in entries)
    assert not any(entry["event"] == "forged" for entry in entries)
    assert sum(entry["event"] == "request" for entry in entries) == forged.requests


def test_each_line_of_the_trail_is_one_record_of_ours(forged: Forged) -> None:
    lines = lines_of(forged.folder / "audit")
    assert verified(lines).intact
    records = [json.loads(line) for line in lines]
    assert len(records) > len(EVILS) * 5
    assert not any(record.get("event") == "forged" for record in records)
    assert not any(record["subject"] == "user:root" for record in records)
    texts = [text for record in records for text in strings_in(record)]
    assert not [text for text in texts if any(odd(character) for character in text)]
    assert {record["peer"] for record in records if "peer" in record} == {"127.0.0.1"}


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)
    elif isinstance(value, str):
        yield value


def odd(character: str) -> bool:
    return character in "\u2028\u2029\u202e\u200b\ufeff" or character < " " or "\x7f" <= character <= "\x9f"
