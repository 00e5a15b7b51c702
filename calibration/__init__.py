"""Axis 1, how the integers are chosen: samples, observers, ranges, and the methods that turn them into a plan."""
