"""Limits of the analyses on control that the pages name too."""

OVERDRIVE = 1.0  # nats of disturbance from which on effects of the default model fall again
FEWEST_RANKED = 4  # methods that a rank correlation is given of: of three, the least p is 1/3
MOST_COUNTED = 8  # methods of which all orders are counted: 8! = 40,320
