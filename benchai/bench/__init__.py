"""Bench: the one object that a CLI command, an HTTP request and a user's script open to run workflows.

``bench`` is what its users see. It owns its ``parts``, which are opened and closed there. A run that it makes of what
it is asked goes through the ``runner``, and is one of the ``runs`` under way meanwhile.
"""

from benchai.bench.bench import Bench

__all__ = ["Bench"]
