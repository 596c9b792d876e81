"""An HTTP/1.1 server for any ASGI application. It knows no OpenAI and no pages, and imports no other part of Tok0n."""
