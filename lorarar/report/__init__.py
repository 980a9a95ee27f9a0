"""One page of many measurements: `lorarar report` (docs/report.md)."""
