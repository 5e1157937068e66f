import time
from email.utils import formatdate

import pytest

from imaged.registry.errors import TransportError, refusal
from imaged.registry.retry import RetryPolicy

POLICY = RetryPolicy(attempts=4, base_s=1.0, jitter=lambda: 0.0)


def test_delays_double_and_end() -> None:
    delays = [POLICY.delay_s(TransportError("broke"), attempt) for attempt in (1, 2, 3, 4)]
    assert delays == [1.0, 2.0, 4.0, None]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    assert POLICY.delay_s(refusal("Get", "u", status, {}, b""), 1) == 1.0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 501])
def test_what_will_not_pass_is_not(status: int) -> None:
    assert POLICY.delay_s(refusal("Get", "u", status, {}, b""), 1) is None


def test_retry_after_in_seconds_is_waited_for() -> None:
    assert POLICY.delay_s(refusal("Get", "u", 429, {"retry-after": "7"}, b""), 1) == 7.0


def test_retry_after_as_a_date_is_waited_for() -> None:
    headers = {"retry-after": formatdate(time.time() + 20, usegmt=True)}
    delay_s = POLICY.delay_s(refusal("Get", "u", 503, headers, b""), 1)
    assert delay_s is not None
    assert 15 < delay_s <= 21


@pytest.mark.parametrize("value", ["", "soon", "-1", "99999999999999", "١٢"])
def test_retry_after_that_makes_no_sense_is_ignored(value: str) -> None:
    assert POLICY.delay_s(refusal("Get", "u", 429, {"retry-after": value}, b""), 1) == 1.0


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b'{"errors": 7}', b'{"errors": [[]]}', b"[" * 100_000]
)
def test_error_body_that_makes_no_sense_is_told_by_status(body: bytes) -> None:
    assert refusal("Get", "u", 404, {}, body).code == "NOT_FOUND"


def test_error_text_cannot_hold_control_characters() -> None:
    body = b'{"errors": [{"code": "X", "message": "a\\u001b[31mb\\nc"}]}'
    assert refusal("Get", "u", 500, {}, body).message == "a [31mb c"
