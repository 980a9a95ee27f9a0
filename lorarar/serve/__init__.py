"""`lorarar serve`: a local web page that draws with an exported pipeline."""
