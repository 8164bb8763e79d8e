"""From torch nets to programs of the engine: the only room that knows both."""
