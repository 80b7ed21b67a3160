"""Whatever is wrong with a file, a flag or an array: one sentence, exit code 2, nothing left."""
