"""Placeholder while the skeleton is laid out."""


def audit_plan() -> None:
    """Not built yet."""
    raise NotImplementedError
