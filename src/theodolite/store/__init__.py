"""Rows on disk; the disk protocol is docs/store.md."""

from theodolite.store.store import Store

__all__ = ["Store"]
