"""Make the feed that the configuration asks for, or say what is wrong with it.

In: the stack's and the service's configuration. Out: a feed whose every step is valid. Never: a feed whose bars have
another interval than the rest of the stack expects.
"""

from pathlib import Path

from services.market_data.config import FeedKind, MarketDataConfig
from services.market_data.core.feed import Feed
from services.market_data.core.synthetic import SyntheticFeed
from services.market_data.replay_file import load_replay
from shared.config import StackConfig, timeframe_ns
from shared.errors import ConfigError

# A fixed beginning: the same seed gives the same market on any day.
SYNTHETIC_START_NS = 1_767_225_600_000_000_000


def build_feed(stack: StackConfig, config: MarketDataConfig) -> Feed:
    """Return the configured feed.

    Raises InputError for an unusable file, ConfigError when its interval is not the stack's.
    """
    if config.feed is FeedKind.SYNTHETIC:
        return _synthetic(stack, config)
    assert config.replay_path is not None
    feed = load_replay(Path(config.replay_path), stack.assets, config)
    if timeframe_ns(feed.timeframe) != timeframe_ns(stack.timeframe):
        raise ConfigError(
            f"stack.timeframe is {stack.timeframe}, but {config.replay_path} has bars of {feed.timeframe}: "
            f"set stack.timeframe={feed.timeframe}, or leave it out"
        )
    return feed


def _synthetic(stack: StackConfig, config: MarketDataConfig) -> SyntheticFeed:
    start_ns = SYNTHETIC_START_NS if config.start_ns is None else config.start_ns
    steps_max = config.steps_max
    if config.end_ns is not None:
        steps = (config.end_ns - start_ns) // timeframe_ns(stack.timeframe)
        if steps < 1:
            raise ConfigError(
                f"market_data.end={config.end} leaves no whole bar of {stack.timeframe}: choose a later one"
            )
        steps_max = steps if steps_max is None else min(steps, steps_max)
    return SyntheticFeed(config.synthetic, stack.assets, stack.timeframe, start_ns=start_ns, steps_max=steps_max)
