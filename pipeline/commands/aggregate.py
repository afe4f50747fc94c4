"""Placeholder while the skeleton is laid out."""


def aggregate() -> None:
    """Not built yet."""
    raise NotImplementedError
