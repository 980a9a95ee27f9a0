"""One page of many measurements: `lorarar report` (docs/report.md).

`read` checks the benchmarks' JSON, `sections` picks what belongs together and what is drawn of it,
`drawing` draws it, `page` writes.
"""
