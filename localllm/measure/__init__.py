"""Numbers about models on this machine: what settings are fastest. Above the runtime, which it only uses."""
