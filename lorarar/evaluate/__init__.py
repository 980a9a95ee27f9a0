"""Pictures judged by models and people: `lorarar evaluate` and its siblings (docs/evaluate.md).

`questions` holds what is asked, `folder` which pictures there are, `judges/` who answers,
`answers` what an answer means, `cache` what was answered; `runner` asks, `scores` sums up, `pages`
shows; `agreement` compares raters, `preference` methods; `voting` asks people.
"""
