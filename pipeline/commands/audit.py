"""Placeholder while the skeleton is laid out."""


def audit() -> None:
    """Not built yet."""
    raise NotImplementedError
