"""The web pages and the payment webhook."""
