"""An HTTP/1.1 server for any ASGI application. Imports no other part of Tok0n."""
