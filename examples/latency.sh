secateur prune resnet20 --budget latency=0.8 --budget params=0.9 --out runs/faster
secateur prune resnet20 --budget macs=0.9 --round-to auto --targets layer3.0 --out runs/rounded
