"""How far a customer's prospects can fall while nothing happens, without computing them again.

Silence makes a customer who is alive a slower one: their rate of purchases is scaled by a factor c.
P(a purchase within t) and the expected purchases are concave in the rate and 0 at rate 0, so that
they fall by no more than c while alive. The time until they leave can only grow.
"""

from __future__ import annotations

from typing import NamedTuple

from models.btyd._checks import FloatArray


class Fading(NamedTuple):
    """Bounds on what a silence does, as factors.

    alive: P(alive) keeps at least so much. pace: so do, beside that, the purchases to come of who
    is alive. longer: the time to come of who is alive grows at most by so much.
    """

    alive: FloatArray
    pace: FloatArray
    longer: FloatArray
