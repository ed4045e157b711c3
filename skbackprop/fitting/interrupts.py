"""What ends training from outside, and leaves what the complete epochs have reached to be kept."""

from __future__ import annotations

from typing import TypeAlias


class BrokenOff(Exception):
    """Training can't go on, by no fault of the network or the data: what it reached is kept."""


Interrupt: TypeAlias = KeyboardInterrupt | BrokenOff

INTERRUPTS = (KeyboardInterrupt, BrokenOff)
