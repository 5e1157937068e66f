"""Reading tar archives that nobody vouches for."""
