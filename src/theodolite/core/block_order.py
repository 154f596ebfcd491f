"""The order of blocks in a forward pass: blocks can be left out, exchanged, or run in place of others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from theodolite.core.errors import UserError
from theodolite.core.several import several


@dataclass(frozen=True)
class BlockOrder:
    """The block that runs at each depth that is named, None where none does; other depths keep their own.

    A skipped block is not computed: the stream passes unchanged. Sites count depths, so `blocks.3.attn_out` is what
    attention adds at depth 3, whichever block runs there. It stands in the list of interventions.

    >>> BlockOrder.skip(3), BlockOrder.swap(1, 2), BlockOrder.replace(4, by=2)
    (BlockOrder({3: None}), BlockOrder({1: 2, 2: 1}), BlockOrder({4: 2}))
    """

    changes: Mapping[int, int | None]

    def __post_init__(self) -> None:
        object.__setattr__(self, "changes", dict(self.changes))
        if not self.changes:
            raise UserError("an order of blocks must name at least one depth: BlockOrder.skip(3) leaves out block 3")
        for number in (*self.changes, *self.changes.values()):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
                raise UserError(f"block {number!r}: give a whole number, 0 or larger")

    @classmethod
    def skip(cls, blocks: int | Iterable[int]) -> "BlockOrder":
        """Leave out one block or several."""
        return cls(dict.fromkeys(several(blocks)))

    @classmethod
    def swap(cls, one: int, other: int) -> "BlockOrder":
        """Let two blocks run in each other's place."""
        return cls({one: other, other: one})

    @classmethod
    def replace(cls, block: int, by: int) -> "BlockOrder":
        """Run one block in place of another; it still runs at its own depth."""
        return cls({block: by})

    @classmethod
    def merged(cls, orders: Iterable["BlockOrder"]) -> "BlockOrder | None":
        """Return the order that several make together, None for none; no two may name one depth."""
        changes: dict[int, int | None] = {}
        for order in orders:
            if twice := sorted(changes.keys() & order.changes.keys()):
                raise UserError(f"two orders of blocks say what runs at depth {twice[0]}: give only one of them")
            changes |= order.changes
        return cls(changes) if changes else None

    def check(self, n_blocks: int) -> "BlockOrder":
        """Return this order, or an error if the model has no such block."""
        for number in (*self.changes, *self.changes.values()):
            if number is not None and number >= n_blocks:
                raise UserError(f"block {number} does not exist: the model has blocks 0 to {n_blocks - 1}")
        return self

    def over(self, n_blocks: int) -> list[int | None]:
        """Return the block that runs at every depth.

        >>> BlockOrder.swap(1, 2).over(4)
        [0, 2, 1, 3]
        """
        return [self.changes.get(depth, depth) for depth in range(n_blocks)]

    def to_json(self) -> dict[str, Any]:
        """Return a form that `from_json` reads: pairs of depth and block."""
        return {"blocks": [[depth, block] for depth, block in self.changes.items()]}

    @classmethod
    def from_json(cls, form: dict[str, Any]) -> "BlockOrder":
        """Return the order that a JSON form describes."""
        pairs: Any = form.get("blocks")
        well_formed = isinstance(pairs, list) and all(isinstance(p, list) and len(p) == 2 for p in pairs)
        if set(form) != {"blocks"} or not well_formed or len({str(p[0]) for p in pairs}) < len(pairs):
            raise UserError('an order of blocks is {"blocks": [[depth, block or null], ...]}, each depth once')
        if any(depth is None or isinstance(depth, list | dict) for depth, _ in pairs):
            raise UserError(f"a pair of {pairs} has no depth: pairs are [depth, block or null]")
        return cls(dict(pairs))

    def __repr__(self) -> str:
        return f"BlockOrder({dict(self.changes)})"
