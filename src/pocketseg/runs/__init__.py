"""A run on disk, which model a path means, and what is made of a run's model: packed files, inspections, results."""
