"""The recipe of the embedded models: training tables, tokenizer, first weights, figures of each stage, shipping."""
