# The pruned network learns from the dense one; after an interruption the same command goes on
secateur train lenet5 --data digits --epochs 8 --out runs/dense
secateur prune runs/dense --data digits --budget macs=0.3 --out runs/small
secateur finetune runs/small --data digits --distill runs/dense --ema 0.95 --checkpoint-dir runs/kept --out runs/taught
# No labels: any images serve, the teacher has the answers
secateur finetune runs/small --data digits --distill runs/dense --unlabelled digits --out runs/blind
# Validated on a tenth of the training images; the best epoch is saved
secateur finetune runs/small --data digits --epochs 6 --early-stopping 2 --label-smoothing 0.1 --out runs/best
