"""A small campaign and its server, and browsers of everybody in it."""

from __future__ import annotations
