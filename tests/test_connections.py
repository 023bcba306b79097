"""Who holds a connection, as the system sees it."""

import os
import select
import socket
import subprocess

import connections


def test_a_connection_belongs_to_whoever_has_taken_it() -> None:
    me = os.getpid()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert connections.held(me, port) == set()  # it waits to be taken
            taken, _ = listener.accept()
            with taken:
                assert connections.held(me, port) == {client.getsockname()[1]}
                assert connections.held(os.getppid(), port) == set()
            assert connections.held(me, port) == set()


def test_who_has_a_socket_takes_connections_only_while_it_waits_for_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, select.epoll() as waiting:
        port = listener.getsockname()[1]
        assert not connections.takes(os.getpid(), port)
        waiting.register(listener)
        assert connections.takes(os.getpid(), port)
        waiting.unregister(listener)
        assert not connections.takes(os.getpid(), port)


def test_who_has_ended_holds_and_takes_nothing() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert connections.held(child.pid, 80) == set()
    assert not connections.takes(child.pid, 80)
