"""Why does a narrow fine-tune generalise broadly? Each part asks one question and ends in findings."""
