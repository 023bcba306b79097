"""`python -m app`: the service in a process of its own, from the first setting to the last request.

SIGTERM turns readiness off at once, and the service goes on answering for `drain_s`, so that whoever sends it
traffic has time to notice; then it takes no more connections, finishes what it has and exits with 0. SIGINT
(Ctrl-C) skips the wait, and so does a second signal.
"""

import argparse
import logging
import logging.config
import socket
import sys
from collections.abc import Sequence
from typing import Final

from app import logs, supervisor
from app.errors import CANNOT_START, SettingsError
from app.settings import PREFIX, Settings, add_options

_LOG: Final = logging.getLogger("app")
_BACKLOG: Final = 2048


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until a signal comes; 0 after an orderly end, 2 if the service cannot start.

    `classify` is a command of its own, with other options and exit codes: see `app.classify`.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["classify"]:
        from app import classify

        return classify.main(arguments[1:])
    given = vars(_parser().parse_args(arguments))
    given.pop("command")
    try:
        settings = Settings.load(**given)
        if settings.grpc_port:
            # The library would share a port with another process without a word.
            _listen(settings.host, settings.grpc_port, "grpc_port").close()
        with _listen(settings.host, settings.port) as listener:
            return _serve(settings, listener)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return CANNOT_START


def _serve(settings: Settings, listener: socket.socket) -> int:
    host, port = listener.getsockname()[:2]
    logging.config.dictConfig(logs.configuration(settings.log_format, settings.log_level))
    _LOG.info("Listening on http://%s:%d; press Ctrl-C to stop.", f"[{host}]" if ":" in host else host, port)
    if settings.workers > 1:
        return supervisor.run(settings, listener)
    # Only here: a supervisor needs none of it.
    from app import start

    start.run(settings, listener)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m app",
        usage="%(prog)s [serve] [options]\n       %(prog)s classify PATH... [options]",
        description="Serve an image classifier over HTTP. To classify files and folders instead, see:\n"
        "  python -m app classify --help",
        epilog=f"Every option can also be set in the environment: --max-pixels as {PREFIX}MAX_PIXELS.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve", "classify"],
        default="serve",
        help="what to do; the options below are those of serve (default: serve)",
    )
    add_options(parser.add_argument, Settings.model_fields)
    return parser


def _listen(host: str, port: int, setting: str = "port") -> socket.socket:
    """A listening socket, so that a port in use is known before a model is loaded."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family)
    except OSError as error:
        raise _cannot_listen(host, port, setting, error) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, setting, error) from error
    return listener


def _cannot_listen(host: str, port: int, setting: str, error: OSError) -> SettingsError:
    option = setting.replace("_", "-")
    return SettingsError(
        f"Cannot listen on {host} port {port}: {error.strerror}. Choose another with --host and --{option} "
        f"({PREFIX}HOST and {PREFIX}{setting.upper()}), or stop what uses it."
    )


if __name__ == "__main__":
    sys.exit(main())
