# Half of the multiply-accumulates leave while the network trains
secateur train lenet5 --data digits --epochs 4 --method soft-filters:macs=0.5 --out runs/soft
# Nine of ten weights become zero, little by little; finetune holds them there
secateur train lenet5 --data digits --epochs 4 --method agp:sparsity=0.9 --out runs/sparse
secateur finetune runs/sparse --data digits --epochs 2 --out runs/tuned
# A trained network, two methods at once; after an interruption the same command goes on
secateur train lenet5 --data digits --epochs 4 --out runs/dense
secateur finetune runs/dense --data digits --epochs 3 --method admm:macs=0.5,rho=0.05 --method group-lasso --checkpoint-dir runs/kept --out runs/half
# Regularisers cut nothing; what is printed in the end says what does
secateur train lenet5 --data digits --epochs 4 --method unit-dropout:share=0.5,ramp=0.5 --out runs/ready
secateur prune runs/ready --data digits --criterion l2 --budget macs=0.5 --out runs/cut
secateur list methods
