"""Words of a claim of selective prediction, as selection.json holds them."""

HOLDS, FAILS, INCONCLUSIVE, NOTHING = "holds", "fails", "inconclusive", "nothing accepted"
