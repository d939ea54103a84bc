secateur compare lenet5 --data digits --limit 300 --budget params=0.3 --calibration 128 --repeats 1 --out runs/comparison
