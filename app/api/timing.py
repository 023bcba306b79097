"""Where the time of a request went, in a header that browsers show: https://www.w3.org/TR/server-timing/."""


def server_timing(**seconds: float) -> dict[str, str]:
    """The header for what each stage took, in the order given."""
    stages = (f"{stage};dur={1000 * spent:.2f}" for stage, spent in seconds.items())
    return {"Server-Timing": ", ".join(stages)}
