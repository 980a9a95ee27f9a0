"""The one exception a user's input can cause."""


class LorararError(Exception):
    """Bad input. The message is one line that names the file, the tensor and the remedy."""

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Return text out of files with escapes in place of what would steer a terminal."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )
