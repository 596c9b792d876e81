"""The names of the endpoints in a model's setting `endpoints`, and their paths."""

PATHS = {
    "chat": "/v1/chat/completions",
    "embeddings": "/v1/embeddings",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
