"""The run folder and what is written there: stages, tables, HTML, provenance, the terminal.

Imports no other room.
"""
