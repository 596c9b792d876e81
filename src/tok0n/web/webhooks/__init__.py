"""What others call when something happened on their side."""
