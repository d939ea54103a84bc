secateur prune lenet5 --budget macs=0.5 --out runs/half
secateur bench lenet5 runs/half --batch 8 --threads 1 --repeats 20 --out runs/bench
secateur bench lenet5 runs/half --engines eager,onnxruntime --repeats 5
secateur export runs/half --out half.onnx
secateur bench half.onnx --engines onnxruntime --repeats 5
secateur report runs/bench -o bench.html
