"""The vector index, opened: looked at before, and made anew where it is damaged."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from benchai.errors import StoreDamaged

if TYPE_CHECKING:
    from benchai.memory.embed import Embedder
    from benchai.memory.index import VectorIndex

logger = logging.getLogger(__name__)


def open_index(folder: Path, chroma: str | None, store: str, embedder: Embedder) -> VectorIndex:
    """The index of an embedder, which was prepared; blocks. What a damaged one held is embedded anew later.

    Args:
        folder: Of the vectors, where no server has them.
        chroma: Address of a Chroma server.
        store: Id of the memory, where several share a server.

    Raises:
        StoreError: the folder can't be made, or the server can't be reached.
    """
    from benchai.memory.index import ChromaIndex
    from benchai.memory.probe import probe

    if chroma is not None:
        index = ChromaIndex.on_server(chroma, embedder.fingerprint, embedder.dimension, store)
        index.clear(others=True)
        return index
    damage = probe(folder)
    if damage is None:
        try:
            return _opened(folder, embedder)
        except StoreDamaged as error:
            damage = error.message
    logger.warning("the vectors in %s are damaged and made anew: %s", folder, damage)
    shutil.rmtree(folder)
    return _opened(folder, embedder)


def _opened(folder: Path, embedder: Embedder) -> VectorIndex:
    from benchai.memory.index import ChromaIndex

    index = ChromaIndex.in_folder(folder, embedder.fingerprint, embedder.dimension)
    # those of an earlier embedder take room and find nothing
    index.clear(others=True)
    return index
