secateur prune --recipe recipe.yaml --criterion l2
