"""runtimed's tables; see ``0001_containers.sql``."""
