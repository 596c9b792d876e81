"""What all pages share: a visit, how figures are written, charts, assets."""
