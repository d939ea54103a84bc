# 2:4 with new values for the weights that stay; perplexity before and after; what transformers loads, measured again
secateur prune hf:llama --granularity 2:4 --criterion sparsegpt --targets Linear --ignore lm_head --data text:corpus --out llama-2-4
secateur evaluate hf:llama-2-4 --data text:corpus
# Half of the weights, anywhere
secateur prune hf:llama --granularity element --budget sparsity=0.5 --criterion wanda --targets Linear --ignore lm_head --data text:corpus --out llama-half
