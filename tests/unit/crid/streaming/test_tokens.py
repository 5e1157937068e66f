import pytest

from crid.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest, Request, StandardStreams
from crid.streaming.tokens import LIFE_S, MAX_WAITING, Tokens
from sampan.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError

OUTPUT = StandardStreams(stdout=True)
REQUESTS: tuple[Request, ...] = (
    ExecRequest("c", ("ls",), OUTPUT),
    AttachRequest("c", OUTPUT),
    PortForwardRequest("s", (80,)),
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("request_", REQUESTS)
def test_url_serves_what_was_asked_for_once(request_: Request) -> None:
    tokens = Tokens(Clock())
    path = tokens.issue(request_)
    assert tokens.redeem(path) is request_
    with pytest.raises(NotFoundError, match="serves once, within a minute"):
        tokens.redeem(path)


def test_url_ends_after_its_minute() -> None:
    clock = Clock()
    tokens = Tokens(clock)
    early, late = tokens.issue(REQUESTS[0]), ""
    clock.now += LIFE_S / 2
    late = tokens.issue(REQUESTS[1])
    clock.now += LIFE_S / 2
    with pytest.raises(NotFoundError):
        tokens.redeem(early)
    assert tokens.redeem(late) is REQUESTS[1]


@pytest.mark.parametrize(
    "path", ["/", "/exec", "/exec/", "/exec/x", "/attach/{token}", "/exec/{token}/", "//exec/{token}"]
)
def test_guessed_url_is_nothing_and_costs_the_right_one_nothing(path: str) -> None:
    tokens = Tokens(Clock())
    right = tokens.issue(REQUESTS[0])
    with pytest.raises(NotFoundError):
        tokens.redeem(path.replace("{token}", right.rpartition("/")[2]))
    assert tokens.redeem(right) is REQUESTS[0]


def test_urls_that_wait_have_a_limit_which_time_lifts() -> None:
    clock = Clock()
    tokens = Tokens(clock)
    paths = {tokens.issue(REQUESTS[0]) for _ in range(MAX_WAITING)}
    assert len(paths) == len(tokens) == MAX_WAITING
    with pytest.raises(ResourceExhaustedError, match="wait for their clients"):
        tokens.issue(REQUESTS[0])
    clock.now += LIFE_S
    tokens.issue(REQUESTS[0])
    assert len(tokens) == 1


def test_token_cannot_be_guessed() -> None:
    tokens = Tokens(Clock())
    assert len(tokens.issue(REQUESTS[0]).removeprefix("/exec/")) == 43  # 256 bits, six in each character


def test_terminal_has_one_output_and_something_is_wanted() -> None:
    with pytest.raises(InvalidArgumentError, match="tty and stderr cannot both be true"):
        StandardStreams(stdout=True, stderr=True, tty=True)
    with pytest.raises(InvalidArgumentError, match="one of stdin, stdout, or stderr must be set"):
        StandardStreams(tty=True)
