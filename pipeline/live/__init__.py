"""Live campaigns: people judge pairs while the weights learn, and everything is a function of one log.

    campaign.py    what the server, the command line and Python call
    store.py       the log, the pairs and the people, in SQLite or PostgreSQL
    book.py        the log read forward: who holds what, which pairs have closed
    allocation.py  which pair a labeler gets next
    rounds.py      the book as rounds, and the labels that they give
    export.py      the files of ``aggregate``, and the log
    verify.py      read the log again: is it whole, and does it give what was stated

A *round* is the closing of a pair. Known elsewhere as: annotation project, labeling queue, crowdsourcing task.
"""
