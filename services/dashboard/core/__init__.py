"""The page's pure half: messages folded into a board, numbers turned into text and pictures."""
