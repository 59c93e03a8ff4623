"""Whether a number that was written is the number that is read: never rounded on the way.

Knows: that who reads a decimal as a double may read a neighbour of it, that a reader of decimals
sees the number itself, and that doubles are written with the fewest digits or with seventeen.
Must not know: where the number stood, what it counts.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

#: The greatest integer a double, and so every JSON reader, holds exactly (RFC 7493 section 2.2).
INTEGER_MAX = 2**53 - 1
#: A decimal of fewer significant digits names one double and comes back from it as it was.
LOSSY_DIGITS = 16


def is_exact(literal: str) -> bool:
    """Whether the float of a JSON number that has a fraction or an exponent stands for just this
    number: whoever writes the float gets the same decimal, in as few digits as name it (Python,
    JavaScript, Go) or in seventeen (C, older PHP and Swift)."""
    value = float(literal)
    shortest = repr(value)
    if literal == shortest:
        return True
    try:
        written = Decimal(literal)
    except InvalidOperation:  # an exponent beyond all bounds
        return False
    return written == Decimal(shortest) or written == Decimal(f"{value:.16e}")
