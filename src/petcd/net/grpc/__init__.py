"""gRPC over ``petcd.net.http2``: calls on the server's side, calls and streams on the client's."""
