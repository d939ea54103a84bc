secateur search --recipe search.yaml
secateur materialise searched --iteration 1 --out first-step
secateur search --recipe search.yaml --from-iteration 1
