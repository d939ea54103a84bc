"""The search for a smaller network, block by block."""

from secateur.search.netadapt.config import SearchConfig
from secateur.search.netadapt.driver import Search, SearchResult

__all__ = ["Search", "SearchConfig", "SearchResult"]
