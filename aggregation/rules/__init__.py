"""One file per rule from reports to a soft label, and what the rules share.

Imports the interface (``base``) alone.
"""
