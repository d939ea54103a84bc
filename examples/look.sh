secateur inspect resnet20
secateur inspect resnet20 --why
secateur inspect resnet20 --format dot --out resnet20.dot
secateur list criteria
secateur list budgets
