"""Placeholder while the skeleton is laid out."""


def simulate() -> None:
    """Not built yet."""
    raise NotImplementedError
