"""Callers: they try again where a connection broke, and say of each try what came of it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from caller import TRIES, Answer, Caller
from load import raw

BODY = b'{"label": "cat", "probabilities": {"cat": 1.0}}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
QUESTIONS = [(raw(b"x"), Answer(200, "cat", {"cat": 1.0}))]


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """Each connection gets one request answered with the next of these, and is closed; then all get `OK`."""
    left = list(answers)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    if connection.recv(10_000):
                        connection.sendall(left.pop(0) if left else OK)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def asked(port: int, until: Callable[[Caller], object]) -> Caller:
    caller = Caller(port, "/predict", QUESTIONS, pause_s=0.01, seed=0)
    caller.start()
    deadline = time.monotonic() + 20
    while not until(caller):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    caller.stop()
    return caller


def test_a_request_that_was_lost_is_sent_again_over_a_new_connection() -> None:
    with answering(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{") as port:
        caller = asked(port, lambda caller: len(caller.tries) >= 3)
    first, second, third = caller.tries[:3]
    assert first.answer is second.answer is None
    assert third.is_right
    assert len({first.port, second.port, third.port}) == 3
    assert first.opened <= first.began <= first.ended <= second.opened
    assert caller.unanswered == 0


def test_a_wrong_answer_is_told_and_not_asked_for_again() -> None:
    with answering(OK.replace(b'"cat",', b'"dog",')) as port:
        caller = asked(port, lambda caller: caller.tries)
    assert caller.tries[0].answer == Answer(200, "dog", {"cat": 1.0})
    assert not caller.tries[0].is_right


def test_it_gives_up_in_the_end() -> None:
    with answering(*[b""] * TRIES) as port:
        caller = asked(port, lambda caller: caller.unanswered)
    assert [tried.answer for tried in caller.tries[:TRIES]] == [None] * TRIES


def test_nobody_who_listens_is_no_answer() -> None:
    with answering() as port:
        pass
    assert asked(port, lambda caller: caller.unanswered).tries == []
