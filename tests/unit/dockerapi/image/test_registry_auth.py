"""Credentials in headers."""

import base64
import json
from typing import Any

import pytest

from dockerapi.image.parameters import from_header


def header(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def test_user_and_password() -> None:
    credentials = from_header(header({"username": "me", "password": "s3cret?>", "serveraddress": "x"}))
    assert credentials is not None
    assert (credentials.username, credentials.password) == ("me", "s3cret?>")


def test_padding_may_be_missing_and_the_alphabet_may_be_the_other_one() -> None:
    text = base64.b64encode(json.dumps({"username": "ÿÿÿ", "password": "~~~???"}).encode()).decode().rstrip("=")
    credentials = from_header(text)
    assert credentials is not None
    assert credentials.password == "~~~???"


def test_tokens() -> None:
    credentials = from_header(header({"identitytoken": "refresh", "registrytoken": "bearer"}))
    assert credentials is not None
    assert (credentials.identity_token, credentials.registry_token) == ("refresh", "bearer")


def test_packed_user_and_password() -> None:
    credentials = from_header(header({"auth": base64.b64encode(b"me:pass:word").decode()}))
    assert credentials is not None
    assert (credentials.username, credentials.password) == ("me", "pass:word")


@pytest.mark.parametrize("text", ["", header({}), header({"username": ""}), header(None)])
def test_nobody(text: str) -> None:
    assert from_header(text) is None


@pytest.mark.parametrize(
    "text",
    ["%%%", header([1]), header("x"), header({"username": 7}), base64.urlsafe_b64encode(b"\xff{").decode(), "abc"],
)
def test_what_cannot_be_read_means_nobody(text: str) -> None:
    assert from_header(text) is None
