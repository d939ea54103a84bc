"""For those who extend Secateur: random networks to try an extension on, and the contract that each kind must keep.

Nothing else in the library imports this package.
"""

from secateur.testing.contracts import check_allocator, check_criterion, check_rule
from secateur.testing.networks import TEMPLATES, Network, networks, random_network

__all__ = ["TEMPLATES", "Network", "check_allocator", "check_criterion", "check_rule", "networks", "random_network"]
