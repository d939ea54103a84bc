secateur prune lenet5 --budget macs=0.5 --out runs/small
secateur export runs/small --out small.onnx
secateur export runs/small --out small.pt2
secateur list exporters
