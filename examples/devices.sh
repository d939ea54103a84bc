secateur train lenet5 --data digits --epochs 5 --out trained
secateur partition trained --topology devices.yaml --owners owners.yaml
secateur partition trained --data digits --topology devices.yaml --budget latency_ms=5.4
secateur partition trained --data digits --topology devices.yaml --budget bytes=0.4 --out apart
secateur finetune apart/model --data digits --epochs 2 --out tuned
secateur partition tuned --like apart --out apart-tuned
secateur run-split apart-tuned --data digits --slow
