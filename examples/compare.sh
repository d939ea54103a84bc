secateur compare lenet5 --data digits --limit 600 --budget params=0.3 --calibration 256 --repeats 1 --out runs/comparison
