"""What every measure may use: errors, arrays, threads, memory, state files."""
