"""Turns, rounds, spread, and what may be concluded from them."""
