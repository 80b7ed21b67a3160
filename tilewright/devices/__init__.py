"""Where kernels are measured: this machine, or another one through TVM's RPC."""
