"""Hostile input: everything that a stranger's file, config, argument or array can be, and what must happen then."""
