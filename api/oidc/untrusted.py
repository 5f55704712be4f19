"""What is wrong with a JWT, for the log; apart from what knows joserfc, which a service without it does not import."""


class UntrustedError(Exception):
    """A JWT that says nothing here. Why is for the log, not for whoever sent it."""
