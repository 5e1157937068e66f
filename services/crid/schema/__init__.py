"""Pod sandboxes and containers as rows; see ``0001_sandboxes.sql``."""
