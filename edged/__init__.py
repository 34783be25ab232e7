"""edged: the daemon that gives robots, cars and small boxes their hearing."""

__version__ = "0.1.0"
