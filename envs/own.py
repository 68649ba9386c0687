"""Environments of our own: importing this makes them known to Gymnasium."""

from qladder.envs import catch, crossing, masked, shapes, sorting, tmaze

__all__ = ["catch", "crossing", "masked", "shapes", "sorting", "tmaze"]
