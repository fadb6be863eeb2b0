"""The Python side of the engine: loads a script from memory, and handles events with it."""
