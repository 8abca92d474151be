"""The one exception that the command line turns into a one-line message."""


class HproError(Exception):
    """A problem that the user can mend: the message names the file, the value and the cure."""
