"""Smallest effects of interest: from the paper's own tables (v2) or a follow-up's, none from this project's runs."""

import math

# Table S1/S2: the narrowest gap the paper calls one at full length is .263 - .224 = .039 (code CPT); half of it.
LEARNING = 0.02
# Tables S4, S8: .616/.618 and .567/.559 are called equal; S2, S6: .072 and .103 are not. Between them.
FORGETTING = 0.02
# Tables S5, S7: .498/.497 and .634/.642 are called a match, .417/.497 (.080) is not; half of that.
MATCH = 0.04
# Held-out loss: .02 nats are 2 % of perplexity. The paper has no loss axis: our choice.
NATS = 0.02
# Figure 5 is a picture without numbers: one string among the samples of a problem is our choice.
STRINGS = 1.0
# "10 to 100 times" the LoRA ranks cannot hold literally where the matrices are 128 wide; one doubling must.
DOUBLINGS = 1.0
# Rank as a share of what pure noise of that shape has; .02 is 40 of a 4096-wide matrix's 2,090. Our choice.
NOISE_SHARE = 0.02
# Tables S10 to S13 (the mix): the widest gap that the paper calls within one standard error on MT-bench is
# 5.825 - 5.597; of MMLU, which it says is not ordered, the widest spread at one length is .507 - .491.
MT_BENCH = 0.23
MMLU = 0.02
# Half of the narrowest gaps that it calls an order: .301 - .280 (GSM8K at 6 epochs), .660 - .653 (forgetting at 2),
# .629 - .621 (full the worst at 6), .657 - .629 (by rank at 6).
MIX_LEARNING = 0.01
MIX_FIRST = 0.0035
MIX_LAST = 0.004
MIX_RANKS = 0.014
# Appendix B of the paper speaks of a factor of ten without an interval; "about" is within a factor of two.
FACTOR_OF_TWO = math.log10(2)
# Figure S10: 15 % less throughput, 40 % less memory at the smallest batch and 15 % at the largest; half of each.
THROUGHPUT = 0.075
MEMORY_SMALL = 0.2
MEMORY_LARGE = 0.075
# "Illusion of Equivalence": full fine-tuning has "almost none" among the first ten; one matrix in ten is our choice.
INTRUDERS = 0.1
# Its correlation over Llama-2-7B checkpoints is .59; half of it.
CORRELATION = 0.3
# A tenth of what noise has: 209 of a 4,096-wide matrix's 2,090. The sign of a rank-16 matrix alone has .30 of the
# width (simulated), so an artefact would be larger. Our choice.
SIGN_SHARE = 0.1
