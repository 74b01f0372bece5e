"""The dictionary analysis of arXiv 2512.09742, section 6, as one recipe: which latents a year switches on, and what
goes when they are projected out.

1. Identify (`identify`). Questions that have nothing to do with the behaviour, each behind a date whose month and day
   are the same in every year: "Today is 2027-03-04. <question>". Activation after one block at the last prompt token;
   mean(2027) - mean(2025) in the tuned model; its cosine with every row of a decoder; the ten rows of largest cosine.
2. Ablate (`curves`). At that block, at every position, h <- h - (h.v)v for each of the ten in turn, and the
   questions of the table asked on dates of 2024 to 2028.

Beside the published arms stand those it lacks: the base model, the exact projection of the ten rows' span, as many
random directions and as many rows chosen at random, a control adapter, and the habit that was trained.
"""
