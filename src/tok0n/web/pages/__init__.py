"""What all pages share: their requests and responses, the format of figures, charts, assets."""
