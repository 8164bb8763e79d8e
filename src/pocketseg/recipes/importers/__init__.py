"""Configuration files of other projects, read as recipes."""
