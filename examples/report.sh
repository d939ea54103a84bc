secateur train lenet5 --data digits --epochs 8 --validation 0.1 --out runs/dense
secateur sensitivity runs/dense --data digits --images 500 --out runs/sensitivity
secateur prune runs/dense --data digits --budget macs=0.5 --latency --out runs/small
secateur report runs/dense runs/sensitivity runs/small -o report.html
