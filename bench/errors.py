"""What can go wrong with one server while the others go on."""


class UnavailableError(Exception):
    """A server that can't be had on this machine, with the reason."""


class VoidError(Exception):
    """A measurement that doesn't count: an event was lost, repeated or misplaced, or something ended."""
