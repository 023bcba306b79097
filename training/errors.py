"""What stops a training on purpose; the text says what is wrong and what to do about it."""


class TrainingError(Exception):
    """Base of the errors whose message is meant for whoever started the training."""


class DataError(TrainingError):
    """The data set cannot be used."""


class CheckpointError(TrainingError):
    """The checkpoint is damaged or belongs to another training."""


class RecipeError(TrainingError):
    """A number of the recipe is out of its range."""


class DevicesError(TrainingError):
    """What the training runs on is not there any more."""
