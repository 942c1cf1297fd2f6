"""NBD: the codec both ends share, the client's connection, and the server that exports nodes."""
