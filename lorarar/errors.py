"""The one exception a user's input can cause."""


class LorararError(Exception):
    """Bad input. The message is one line that names the file, the tensor and the remedy."""
