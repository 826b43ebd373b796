"""The one exception that a user is meant to read: what is wrong, where, and what to do about it."""


class UserError(Exception):
    """Bad input. The command line prints the message alone and exits with code 2."""
