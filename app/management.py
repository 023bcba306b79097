"""What an operator may change about a model while it serves; each call is one decision, written down."""

from app.errors import ConflictError, LabelNotFoundError, VersionNotFoundError
from app.model import State
from app.versions import Versions


async def promote(versions: Versions, number: int | None) -> None:
    """Makes a version live, loaded if need be, and keeps it so; None leaves it to the policy again.

    Raises:
        ConflictError: the settings pin another one, or something else was decided while it was loaded.
        ModelError: the version is not there or not sound; the old one stays live.
    """
    if versions.pinned is not None:
        raise ConflictError(
            f"CLASSIFIER_MODEL_VERSION pins {versions.name} to version {versions.pinned} while the service "
            "runs."
        )
    if number is None:
        async with versions.changing():
            await versions.decide(lambda now: now.changed(live=None, serve=True))
            versions.call_off(lambda demand: demand.to_answer)
        await versions.settled()
        return
    async with versions.changing():
        _check_there(versions, number)
    async with versions.demanded(number, to_answer=True):
        await versions.decide(
            lambda now: now.changed(live=number, unloaded=now.unloaded - {number}, serve=True)
        )


async def load(versions: Versions, number: int) -> None:
    """Keeps a version in memory besides the live one.

    Raises:
        ConflictError: it, or the whole model, was unloaded while it was loaded.
        ModelError: it is not there or not sound.
    """
    async with versions.changing():
        _check_there(versions, number)
    async with versions.demanded(number):
        await versions.decide(
            lambda now: now.changed(
                loaded=now.loaded | {number}, unloaded=now.unloaded - {number}, serve=True
            )
        )


async def unload(versions: Versions, number: int) -> None:
    """Takes a version out of memory, if it is there, when its last request is answered.

    Raises:
        ConflictError: it is the live one, or a label points to it.
        VersionNotFoundError: there is no such version.
    """
    async with versions.changing():
        _check_unused(versions, number)
        unwanted = {number} & versions.kept_by_policy()
        await versions.decide(
            lambda now: now.changed(loaded=now.loaded - {number}, unloaded=now.unloaded | unwanted)
        )
        versions.call_off(lambda demand: demand.number == number)


async def set_label(versions: Versions, label: str, number: int) -> None:
    """Points a label to a version that is ready.

    Raises:
        ConflictError: it is not ready.
    """
    async with versions.changing():
        state = versions.residents.status(number).state
        if state is not State.READY:
            raise ConflictError(
                f"A label points only to what is ready, and {versions.name} version {number} is {state}. "
                f"Load it first: POST /models/{versions.name}/versions/{number}/load"
            )
        await versions.decide(lambda now: now.changed(labels={**now.labels, label: number}))


async def remove_label(versions: Versions, label: str) -> None:
    """Forgets a label.

    Raises:
        LabelNotFoundError: there is none of this name.
    """
    async with versions.changing():
        if label not in versions.decisions.labels:
            raise LabelNotFoundError(f"{versions.name} has no label {label!r}.")
        await versions.decide(
            lambda now: now.changed(
                labels={name: number for name, number in now.labels.items() if name != label}
            )
        )


async def serve(versions: Versions, wanted: bool) -> None:
    """Takes the whole model into memory, trying again what has failed, or out of it.

    Raises:
        ModelError: no version of it can answer.
    """
    async with versions.changing():
        versions.residents.forget()
        await versions.decide(lambda now: now.changed(serve=wanted))
        if not wanted:
            versions.call_off(lambda _: True)
    if wanted:
        await versions.settled()
        await versions.complain()


def _check_there(versions: Versions, number: int) -> None:
    known = versions.known()
    if number not in known:
        there = ", ".join(map(str, known)) or "none"
        raise VersionNotFoundError(f"{versions.name} has no version {number}; there is: {there}.")


def _check_unused(versions: Versions, number: int) -> None:
    _check_there(versions, number)
    if versions.is_live(number):
        raise ConflictError(f"{versions.name} version {number} is live; make another one live first.")
    if number == versions.shadow:
        raise ConflictError(
            f"CLASSIFIER_SHADOW_VERSION keeps {versions.name} version {number} in memory while the service "
            "runs."
        )
    if labels := [name for name, labelled in versions.decisions.labels.items() if labelled == number]:
        raise ConflictError(
            f"The label {labels[0]} points to {versions.name} version {number}; move or delete it first."
        )
