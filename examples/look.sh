secateur inspect resnet20 --why
secateur list criteria
secateur list budgets
