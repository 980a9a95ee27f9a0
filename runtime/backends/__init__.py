"""One module per engine, each with `load(path, threads) -> (Manifest, Run, workers)`."""
