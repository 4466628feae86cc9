"""HTTP/2 (RFC 9113) without I/O, for both roles: bytes go in, bytes and calls of hooks come out."""
