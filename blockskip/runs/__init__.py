"""A run: a folder and a process; its worker, pictures, results."""
