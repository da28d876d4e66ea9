"""The recipe of the embedded models: training tables, tokenizer, random start, and what is shipped."""
