"""From images and instructions to responses: `prompts` reads and checks the sources, `sampling` asks the policy."""
