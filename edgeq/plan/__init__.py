"""Number formats, scales and zero points, and what is integer and why: the frozen truth that all else reads."""
