"""The one exception that stands for a user's mistake."""


class UserError(ValueError):
    """A mistake in what the user gave: one sentence that names the argument or file, what was found and what was expected.

    The command line prints the sentence and exits with status 2; library callers can catch it as a ``ValueError``.
    """
