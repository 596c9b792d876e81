"""The parts that all pages share: requests and responses, filters, charts, assets."""
