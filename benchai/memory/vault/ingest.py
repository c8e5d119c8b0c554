"""A vault's notes put into a memory: what changed is read, what was renamed keeps its identity, what is gone goes."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from benchai.memory.cut import Cutting
from benchai.memory.ingest import IngestReport, Progress, Sink, ingest
from benchai.memory.namespace import Namespace
from benchai.memory.scan import File
from benchai.memory.store import Put
from benchai.memory.types import Document, Stamp
from benchai.memory.vault.reader import NoteReader, is_of_note
from benchai.memory.vault.vault import VaultScan, find_vault, scan_vault
from benchai.memory.worker import Worker


class VaultSink(Sink, Protocol):
    """A memory in which documents can be moved."""

    async def move(self, ns: Namespace, old: str, new: str) -> bool:
        """Give a document another source; False where there is none."""
        ...


class Moved(NamedTuple):
    """A note that was renamed: its source before and now."""

    old: str
    new: str


@dataclass(slots=True)
class VaultReport(IngestReport):
    """What came of it; a note that was renamed counts as ``moved``, not as added and removed.

    Attributes:
        root: The vault's folder, as in `Document.source`.
        moved: Notes that were renamed.
    """

    root: str = ""
    moved: list[Moved] = field(default_factory=list)


async def ingest_vault(
    sink: VaultSink,
    ns: Namespace,
    vault: Path,
    *,
    force: bool = False,
    cutting: Cutting | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> VaultReport:
    """Make the memory hold the notes of a vault as they are now; notes that did not change are not read.

    Args:
        sink: Where the notes go.
        ns: Namespace whose documents they are.
        vault: Its folder.
        force: Whether a folder without ``.obsidian`` will do.
        cutting: How long pieces may get.
        progress: Called after each batch.

    Raises:
        UsageError: it is no vault.
        SourceError: the folder can't be looked at.
        StoreError: from the sink; what was put before stays.
    """
    found = await _scanned(vault, force)
    known = await sink.known(ns, f"{found.root.rstrip('/')}/")
    reader = NoteReader(found.root, cutting or Cutting())
    changed = [file for file in found.notes if not _same(file, known.get(file.source), reader.version)]
    following = _Following(sink, known, _gone(found, known))
    # notes are often made empty, to be linked first and written later
    empty = [reader(file.source, b"", file.mtime_ns) for file in changed if not file.size]
    made = await following.put(ns, empty) if empty else Put()
    full = [file.source for file in changed if file.size]
    read = await ingest(following, ns, full, read=reader, progress=progress)
    removed = await sink.drop(ns, following.gone) if following.gone else 0
    return VaultReport(
        added=read.added + made.added,
        changed=read.changed + made.changed,
        unchanged=len(found.notes) - len(changed) + read.unchanged + made.unchanged,
        removed=read.removed + removed,
        failures=[*found.failures, *read.failures],
        passages=read.passages,
        seconds=read.seconds,
        left_out=read.left_out,
        root=found.root,
        moved=following.moved,
    )


class _Following:
    """A sink that knows what is kept of the vault, and moves what was renamed before it is put anew."""

    def __init__(self, sink: VaultSink, known: dict[str, Stamp], gone: Sequence[str]) -> None:
        self.gone = list(gone)
        self.moved: list[Moved] = []
        self._sink, self._known = sink, known

    async def known(self, ns: Namespace, prefix: str = "") -> dict[str, Stamp]:
        """What is known of a note; asked for one note at a time."""
        return {prefix: self._known[prefix]} if prefix in self._known else {}

    async def put(self, ns: Namespace, documents: Sequence[Document]) -> Put:
        """Keep notes, each under the identity that it had."""
        moved = 0
        for document in documents:
            old = self._old(document)
            if old is not None and await self._sink.move(ns, old, document.source):
                self.gone.remove(old)
                self.moved.append(Moved(old, document.source))
                moved += 1
        put = await self._sink.put(ns, documents)
        # its title is its name, so the memory calls it changed, or not
        changed = min(moved, put.changed)
        return put.model_copy(update={"changed": put.changed - changed, "unchanged": put.unchanged - (moved - changed)})

    async def drop(self, ns: Namespace, sources: Sequence[str]) -> int:
        """Forget notes."""
        return await self._sink.drop(ns, sources)

    def _old(self, document: Document) -> str | None:
        """What a new note was called before: one that is gone and said the same, best of the same name."""
        if document.source in self._known:
            return None
        same = [source for source in self.gone if self._known[source].hash == document.hash]
        name = posixpath.basename(document.source)
        return min(same, key=lambda source: (posixpath.basename(source) != name, source), default=None)


async def _scanned(vault: Path, force: bool) -> VaultScan:
    worker = Worker("vault")
    try:
        root = await worker.run(find_vault, vault, force=force)
        return await worker.run(scan_vault, root)
    finally:
        await worker.aclose()


def _same(file: File, stamp: Stamp | None, version: str) -> bool:
    return stamp is not None and (stamp.size, stamp.mtime_ns, stamp.version) == (file.size, file.mtime_ns, version)


def _gone(found: VaultScan, known: dict[str, Stamp]) -> list[str]:
    """What is kept and is there no more; of what can't be looked into nobody knows.

    Documents from the vault's folder that are no notes are no business of ours.
    """
    there = {file.source for file in found.notes}
    unknown = tuple(failure.source for failure in found.failures)
    below = tuple(f"{source}/" for source in unknown)
    notes = (source for source, stamp in known.items() if is_of_note(stamp.version))
    return sorted(one for one in notes if one not in there and one not in unknown and not one.startswith(below))
