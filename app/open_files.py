"""How many files, and so how many connections, a process may have open."""

import logging
import resource
from typing import Final

# For all that is no connection: the model's files, the log, the port, databases.
RESERVED: Final = 256
_LOG: Final = logging.getLogger(__name__)


def room_for(connections: int) -> int:
    """So many connections, or as many as the system allows, after asking it for more files if need be."""
    wanted = connections + RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < wanted:
            connections = max(1, soft - RESERVED)
            _LOG.warning(
                "The system allows %d open files (ulimit -n), which leaves room for %d connections.",
                soft,
                connections,
            )
    return connections
