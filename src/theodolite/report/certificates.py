"""Sentences about the rows that a certificate of selective prediction needs."""


def shortage(alpha: float, needed: int, fewest: int) -> str:
    """Return the note about one reader of one training set whose certify rows are too few.

    needed: rows of every cell that certify this accuracy without an error. fewest: rows of the rarer class.

    >>> shortage(0.9, 22, 12)[:62]
    'one reader of one training set: certifying 0.9 needs at least '
    """
    return (
        f"one reader of one training set: certifying {alpha:g} needs at least {needed} rows without an error in every "
        f"cell, the rarer class has {fewest}"
    )


def need(alpha: float, delta: float, needed: int, fewest: int, most: int) -> str:
    """Return the line of a plan about one accuracy.

    delta: failure probability of each certificate. fewest, most: certify rows of the rarer class, over training sets.

    >>> need(0.9, 0.1, needed=22, fewest=30, most=31)
    'certifying 0.9 needs at least 22 rows ... at delta 0.1; the rarer class has 30 to 31, by training set'
    """
    line = (
        f"certifying {alpha:g} needs at least {needed} rows without an error in every cell at delta {delta:.3g}; "
        f"the rarer class has {fewest} to {most}, by training set"
    )
    return line if fewest >= needed else f"{line}: with fewer, nothing will be accepted at it"
