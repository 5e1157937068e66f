"""What a container may be asked to be, in Docker's words: texts into values, and what is refused of either.

For both fronts, so that one bad value gets one answer, and for runtimed, which looks again.
"""
