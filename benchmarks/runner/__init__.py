"""How anything is run: a recipe, a cell, a process of its own, what it cost, and the file that keeps the result."""
