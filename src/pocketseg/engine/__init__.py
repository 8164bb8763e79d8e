"""The native engine: what a packed model is, how it is read, and how it runs. NumPy and ctypes, never torch."""
