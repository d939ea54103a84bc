# The classroom flow: train, halve the channels, retrain, measure. Write mnist or cifar10 for digits.
secateur train lenet5 --data digits --epochs 10 --out runs/base
secateur prune runs/base --data digits --criterion l1 --budget channels=0.5 --out runs/pruned
secateur finetune runs/pruned --data digits --epochs 4 --out runs/tuned
secateur evaluate runs/tuned --data digits --json
secateur verify runs/pruned --original runs/base
