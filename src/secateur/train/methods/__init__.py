"""What networks are pruned with while they train: objects with one method around the optimizer's step.

    loss.backward()
    method.step(optimizer.step)

Those that act in the forward too have `finish()`, which takes them off for good.
"""

from secateur.train.methods import makers  # noqa: F401  (fills METHODS)
from secateur.train.methods.admm import ADMM
from secateur.train.methods.channels import Channels
from secateur.train.methods.curves import Curve, cubic, geometric, linear, one_shot
from secateur.train.methods.dropout import UnitDropout, WeightDropout, by_rank, lowest
from secateur.train.methods.ending import Ended, demand_one_end, end
from secateur.train.methods.gates import HardConcreteGates
from secateur.train.methods.group_lasso import GroupLasso
from secateur.train.methods.growing import GrowingPenalty
from secateur.train.methods.layer_drop import LayerDrop
from secateur.train.methods.lottery import Ticket, lottery_tickets
from secateur.train.methods.named import METHODS, Made, Maker, Run, read_method
from secateur.train.methods.slimming import Slimming
from secateur.train.methods.sparsity import SparsitySchedule
from secateur.train.methods.targets import Target, Weights, WeightsByMovement

__all__ = [
    "ADMM",
    "METHODS",
    "Channels",
    "Curve",
    "Ended",
    "GroupLasso",
    "GrowingPenalty",
    "HardConcreteGates",
    "LayerDrop",
    "Made",
    "Maker",
    "Run",
    "Slimming",
    "SparsitySchedule",
    "Target",
    "Ticket",
    "UnitDropout",
    "WeightDropout",
    "Weights",
    "WeightsByMovement",
    "by_rank",
    "cubic",
    "demand_one_end",
    "end",
    "geometric",
    "linear",
    "lottery_tickets",
    "lowest",
    "one_shot",
    "read_method",
]
