"""What a comparison says: tables, figures, the page.

Imports ``experiment`` and the rooms below it.
"""
