"""Placeholder while the skeleton is laid out."""


def compare() -> None:
    """Not built yet."""
    raise NotImplementedError
