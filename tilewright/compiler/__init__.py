"""The compiler: importer, pipeline, build and the artifact; TVM runs in a child process."""
