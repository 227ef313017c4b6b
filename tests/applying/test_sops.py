"""Files encrypted by SOPS: read as they were, and refused when anything in them was changed."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.npm import install
from tests.fixtures.sops_files import Identity, encrypt
from vcstack.applying.manifests import load_text
from vcstack.applying.sops import SopsError, decrypt, is_encrypted, read_identities

SECRET: dict[str, Any] = {
    "kind": "Secret",
    "metadata": {"name": "db"},
    "spec": {"type": "Opaque", "data": {"password": "correct horse", "empty": "", "port": 5432, "on": True}},
}
ME = Identity()


def read(text: str, *identities: str) -> list[dict[str, Any]]:
    return decrypt(load_text(text.encode(), "x.yaml"), identities or (ME.secret,))


@pytest.mark.parametrize("options", [{}, {"only": True}, {"regex": ""}])
def test_what_was_encrypted_is_read_as_it_was(options: dict[str, Any]) -> None:
    text = encrypt([SECRET], ME.recipient, **options)
    assert "correct horse" not in text
    assert is_encrypted(load_text(text.encode(), "x.yaml"))
    assert read(text) == [SECRET]


def test_an_independent_reader_reads_the_same(tmp_path: Path) -> None:
    """Else this would only show that the tests and the code make the same mistakes."""
    folder = install(Path(__file__).parents[1] / "fixtures" / "sops")
    file = tmp_path / "secret.yaml"
    file.write_text(encrypt([SECRET], ME.recipient))
    ended = subprocess.run(
        ["node", "decrypt.mjs", str(file), ME.secret], cwd=folder, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == SECRET == read(file.read_text())[0]


def test_any_recipient_reads_it_and_nobody_else() -> None:
    other, stranger = Identity(), Identity()
    text = encrypt([SECRET], other.recipient, ME.recipient)
    assert read(text) == read(text, other.secret) == read(text, stranger.secret, other.secret)
    with pytest.raises(SopsError, match=r"belongs to a recipient: age1"):
        read(text, stranger.secret)
    with pytest.raises(SopsError, match="no age identity is given"):
        decrypt(load_text(text.encode(), "x"), [])


def test_several_documents_have_one_mac() -> None:
    text = encrypt([SECRET, {**SECRET, "metadata": {"name": "other"}}], ME.recipient)
    assert [d["metadata"]["name"] for d in read(text)] == ["db", "other"]
    with pytest.raises(SopsError, match="MAC is wrong"):
        read(text.partition("\n---\n")[0])


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("name: db", "name: evil", "MAC is wrong"),
        ("type:int", "type:str", "MAC is wrong"),
        ("password:", "passwort:", "changed after it was encrypted"),
        ("2026-11-23T09", "2026-11-23T10", "changed after it was encrypted"),
        ("type:str]", "type:map]", "changed after it was encrypted"),
        ("empty: ''", "empty: plain", "is not encrypted"),
        ("mac:", "nomac:", "MAC is missing"),
    ],
)
def test_what_was_changed_afterwards_is_refused(old: str, new: str, word: str) -> None:
    text = encrypt([SECRET], ME.recipient)
    assert old in text
    if old == "type:int":  # the same characters as text: only the MAC could tell, and it takes both alike
        assert read(text.replace(old, new, 1))[0]["spec"]["data"]["port"] == "5432"
        return
    with pytest.raises(SopsError, match=word):
        read(text.replace(old, new, 1))


def test_what_is_not_read_here_is_said() -> None:
    text = encrypt([SECRET], ME.recipient)
    with pytest.raises(SopsError, match="key groups"):
        read(encrypt([SECRET], ME.recipient, key_groups=[{"age": []}]))
    with pytest.raises(SopsError, match="rules by comments"):
        read(encrypt([SECRET], ME.recipient, encrypted_comment_regex="x"))
    with pytest.raises(SopsError, match="not encrypted for an age recipient"):
        read(encrypt([SECRET]))
    with pytest.raises(SopsError, match="no object"):
        read(f"{text}---\nkind: List\nitems: [5]\n")
    assert ME.secret not in text


def test_identities_are_found_among_comments() -> None:
    assert read_identities(f"# created today\n{ME.secret}\n\n# public key: x\n") == [ME.secret]
