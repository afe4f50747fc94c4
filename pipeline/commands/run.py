"""Placeholder while the skeleton is laid out."""


def run() -> None:
    """Not built yet."""
    raise NotImplementedError
