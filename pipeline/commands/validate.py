"""Placeholder while the skeleton is laid out."""


def validate() -> None:
    """Not built yet."""
    raise NotImplementedError
