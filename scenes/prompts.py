"""The prompts that the embedded models were trained on; tests keep them equal to those that the pipeline uses."""

# assets/prompts: split.txt, resplit.txt (a claim as the text), verify.txt, whole.txt, statement.txt (as whole.txt)
SPLIT_PROMPT = "Split the text into atomic claims, each with a yes/no question. Leave out opinions.\n\nText: {response}"
VERIFY_PROMPT = "{question} Answer yes or no."
WHOLE_PROMPT = "Is this description correct? {response} Answer yes or no."

# generation/rewrite.txt
REWRITE_PROMPT = (
    "A picture on the web has the caption below. Ask a question about the picture and answer it with the caption in "
    "clear sentences: correct the spelling, leave out repetitions and what does not describe the picture, and add "
    "nothing. Leave the answer empty if the caption is cut off or describes nothing.\n\nCaption: {caption}"
)
