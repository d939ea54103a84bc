secateur prune lenet300 --granularity element --budget sparsity=0.9 --out runs/sparse
secateur pack runs/sparse -o sparse.sct
secateur unpack sparse.sct -o runs/again
secateur verify sparse.sct --original lenet300
# Rounded values, which the file says; the difference from a network that the other side has
secateur pack runs/sparse -o rounded.sct --values int8
secateur prune lenet300 --granularity element --budget sparsity=0.95 --out runs/sparser
secateur pack runs/sparser -o update.sct --delta runs/sparse
secateur unpack update.sct -o runs/updated --delta runs/sparse
