"""What the template shows: tables and texts out of a result, the charts as SVG.

In: a result, where its candles came from, closes of BTC. Out: a `Page`. Never: an unescaped text (the template escapes
everything but the charts, which escape themselves); a row left out without a word (`left_out`).
"""

import json
from collections.abc import Mapping, Sequence

import msgspec

from services.backtest.config import BacktestSettings
from services.backtest.report import charts, words
from services.backtest.report.draw import Frame, Value, thin
from services.backtest.report.rows import TRADES_MAX, HeatRow, PlanRow, TradeRow, heat, plan_row, plan_text, trades
from services.backtest.report.series import Curve, changes, curves, drawdowns, moments, times_of
from services.backtest.result import BacktestResult
from services.rebalancer.modes import TriggerMode

PLANS_MAX = 400
ASSET_CHARTS_MAX = 24


class Fact(msgspec.Struct, frozen=True):
    """Show one figure: its name, its value, the colour of its sign, and what it means."""

    name: str
    value: str
    tone: str = ""
    hint: str = ""


class Key(msgspec.Struct, frozen=True):
    """Explain one line of a chart."""

    name: str
    kind: str
    value: str = ""
    note: str = ""
    fall: str = ""


class AssetChart(msgspec.Struct, frozen=True):
    """Show one asset's weight."""

    name: str
    css: str
    svg: str


class Provenance(msgspec.Struct, frozen=True):
    """Say where the candles came from; digests are SHA-256."""

    source: str
    file_digest: str
    file_bytes: int | None
    candles_digest: str
    version: str


class Page(msgspec.Struct, frozen=True):
    """Hold everything that the template shows."""

    title: str
    subtitle: str
    headline: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    keys: tuple[Key, ...]
    worth_svg: str
    is_log: bool
    fall_svg: str
    allocation_svg: str
    allocation_keys: tuple[Key, ...]
    asset_charts: tuple[AssetChart, ...]
    bands: str
    limit: str
    plans: tuple[PlanRow, ...]
    plans_left_out: int
    marks_left_out: int
    heat: tuple[HeatRow, ...]
    trades: tuple[TradeRow, ...]
    trades_left_out: int
    notes: tuple[str, ...]
    data: tuple[Fact, ...]
    costs: tuple[Fact, ...]
    sections: tuple[tuple[str, tuple[Fact, ...]], ...]
    quote: str
    points: str


def page_of(result: BacktestResult, provenance: Provenance, btc: Mapping[int, float]) -> Page:
    """Return the page of a result that has at least one step."""
    log, facts, settings = result.log, result.facts, result.facts.settings
    names = [result.name(token) for token in log.assets]
    times, lines, weights = times_of(result), curves(result, btc), moments(result)
    done = changes(result)
    texts = [f"{number}. {plan_text(result, plan)}" for number, plan in enumerate(result.rebalances, start=1)]
    limit = float(settings.rebalancer.position_limit) if settings.rebalancer.position_limit < 1 else None
    kept = charts.kept_marks(len(result.rebalances))[:PLANS_MAX]
    has_bands = any(value is not None for moment in weights for value in moment.upper)
    shown = list(enumerate(zip(log.assets, names, strict=True)))[:ASSET_CHARTS_MAX]
    return Page(
        title=f"{facts.strategy} on {', '.join(names)}",
        subtitle=f"{words.when(facts.first_open_ns)} to {words.when(log.times_ns[-1])} UTC, "
        f"{len(log.times_ns):,} candles of {facts.timeframe}",
        headline=_headline(result),
        facts=_facts(result),
        keys=tuple(_key(line) for line in lines),
        worth_svg=charts.worth_chart(times, lines, result.rebalances, texts),
        is_log=charts.is_log([value for line in lines for value in line.values if value is not None]),
        fall_svg=charts.drawdown_chart(times, lines),
        allocation_svg=charts.allocation_chart(weights, names),
        allocation_keys=_allocation_keys(
            names, weights[-1].weights if weights else (), weights[-1].cash if weights else 0
        ),
        asset_charts=tuple(
            AssetChart(
                name,
                charts.series_class(column),
                charts.asset_chart(weights, column, token, limit if has_bands else None, result.rebalances),
            )
            for column, (token, name) in shown
        ),
        bands=_bands(settings) if has_bands else "",
        limit=words.percent(limit, 0) if limit is not None and has_bands else "",
        plans=tuple(plan_row(result, index, done[index], names) for index in kept),
        plans_left_out=len(result.rebalances) - len(kept),
        marks_left_out=max(0, len(result.rebalances) - charts.MARKS_MAX),
        heat=heat(result),
        trades=trades(result, set(kept)),
        trades_left_out=max(0, len(result.fills) - TRADES_MAX),
        notes=_notes(result),
        data=_data(result, provenance, names),
        costs=_costs(settings),
        sections=_sections(settings),
        quote=settings.quote_asset,
        points=_points(times, lines),
    )


def _headline(result: BacktestResult) -> tuple[Fact, ...]:
    found, quote = result.figures, result.facts.settings.quote_asset
    against = None if found.buy_and_hold_return is None else found.total_return - found.buy_and_hold_return
    return (
        Fact(
            "Worth at the end",
            f"{found.final_value:,.0f}",
            hint=f"{quote}, from {found.initial_capital:,.0f}",
        ),
        Fact(
            "Total return", words.signed(found.total_return), words.tone(found.total_return), f"{found.days:,.0f} days"
        ),
        Fact(
            "Against equal-weight hold",
            words.DASH if against is None else f"{against * 100:+,.2f} pp",
            words.tone(against),
            f"which made {words.signed(found.buy_and_hold_return)}",
        ),
        Fact("Sharpe", words.number(found.sharpe), hint=f"Sortino {words.number(found.sortino)}"),
        Fact("Max drawdown", words.percent(-found.max_drawdown), "down" if found.max_drawdown else "", _fall(result)),
        Fact(
            "Costs",
            f"{found.fees_paid + found.slippage_paid:,.2f}",
            hint=f"{quote}: fees {found.fees_paid:,.2f}, spread and slippage {found.slippage_paid:,.2f}",
        ),
    )


def _fall(result: BacktestResult) -> str:
    found = result.figures
    if found.drawdown_trough_ns is None:
        return "never below a peak"
    end = "not recovered" if found.drawdown_recovered_ns is None else "recovered"
    return f"{words.when(found.drawdown_peak_ns)[:10]} to {words.when(found.drawdown_trough_ns)[:10]}, {end}"


def _facts(result: BacktestResult) -> tuple[Fact, ...]:
    found, quote = result.figures, result.facts.settings.quote_asset
    rows = (
        ("Annualised return", words.signed(found.annualised_return), "compounded over 365 days"),
        ("Volatility", words.percent(found.volatility), "of daily returns, annualised"),
        ("Calmar", words.number(found.calmar), "annualised return over max drawdown"),
        ("Omega", words.number(found.omega), "daily gains over daily losses"),
        ("Value at risk", words.percent(found.value_at_risk), "the daily return that the worst 5 % stay below"),
        ("Expected shortfall", words.percent(found.expected_shortfall), "mean of the worst 5 % of the days"),
        ("Longest fall", f"{found.longest_drawdown_days:,.1f} days", "from a peak to its recovery, or the end"),
        ("Tracking error", words.percent(found.tracking_error), "against equal-weight hold"),
        ("Information ratio", words.number(found.information_ratio), "against equal-weight hold"),
        ("Rebalances", f"{found.rebalance_count:,}", "after the initial allocation"),
        ("Orders and fills", f"{found.orders:,} and {found.fills:,}", f"{found.refused:,} refused by risk"),
        ("Turnover", words.number(found.turnover, " ×"), "everything traded over the mean worth"),
        ("Exposure", words.percent(found.exposure), "mean share of the worth in assets"),
        ("Win rate of sells", words.percent(found.win_rate), "sold above average cost, after the fee"),
        ("Profit factor", words.number(found.profit_factor), "of the sells"),
        ("Expectancy", f"{words.money(found.expectancy_usdt)} {quote}", "mean result of a sell"),
    )
    return tuple(Fact(name, value, hint=hint) for name, value, hint in rows)


def _key(line: Curve) -> Key:
    known = [value for value in line.values if value is not None]
    fall = min([value for value in drawdowns(line.values) if value is not None], default=0.0)
    return Key(line.name, line.kind, words.signed(known[-1] / known[0] - 1.0), line.note, words.percent(fall))


def _allocation_keys(names: Sequence[str], weights: Sequence[float], cash: float) -> tuple[Key, ...]:
    found = [
        Key(name, charts.series_class(column), words.percent(weight, 1))
        for column, (name, weight) in enumerate(zip(names, weights, strict=False))
    ]
    return (*found, Key("cash", "cash", words.percent(cash, 1)))


def _bands(settings: BacktestSettings) -> str:
    rules = settings.rebalancer
    if rules.is_cascade:
        up, down = words.percent(rules.upside_threshold, 0), words.percent(rules.downside_threshold, 0)
        return f"{up} above or {down} below the mean worth of the basket's assets"
    points, relative = (
        f"{rules.band_points * 100:.3g} points of the account",
        f"{rules.band_relative * 100:.3g} % of it",
    )
    match rules.trigger:
        case TriggerMode.ABSOLUTE_BAND:
            return f"{points} around its target weight"
        case TriggerMode.RELATIVE_BAND:
            return f"{relative} around its target weight"
        case _:
            return f"{points} or {relative}, whichever is narrower, around its target weight, looked at on dates only"


def _notes(result: BacktestResult) -> tuple[str, ...]:
    notes = []
    if result.log.refusals:
        first = result.log.refusals[0]
        notes.append(
            f"Risk refused {len(result.log.refusals)} orders, the first at {words.when(first.refused_at_ns)}: "
            f"{result.name(first.instrument)}: {first.detail}."
        )
    if result.missing_bars:
        missing = ", ".join(f"{name} {count}" for name, count in result.missing_bars.items())
        notes.append(
            f"Steps without a candle: {missing}. The last price stays in force, and no plan is made meanwhile."
        )
    if result.log.unsent:
        notes.append(f"{len(result.log.unsent)} orders decided on the last candle had no next open to fill at.")
    if not result.rebalances:
        notes.append("Nothing was traded.")
    return tuple(notes)


def _data(result: BacktestResult, provenance: Provenance, names: Sequence[str]) -> tuple[Fact, ...]:
    facts, log = result.facts, result.log
    size = "" if provenance.file_bytes is None else f"{provenance.file_bytes:,} bytes"
    return (
        Fact("Source", provenance.source, hint=size),
        Fact("SHA-256 of the source", provenance.file_digest or words.DASH),
        Fact("SHA-256 of the closes used", provenance.candles_digest),
        Fact("Range", f"{words.when(facts.first_open_ns)} to {words.when(log.times_ns[-1])} UTC"),
        Fact("Interval, steps", f"{facts.timeframe}, {len(log.times_ns):,}"),
        Fact("Assets", ", ".join(names)),
        Fact("SHA-256 of the fills", result.fills_digest),
        Fact(
            "SHA-256 of the decisions", result.decisions_digest if result.is_journalled else "not computed: --journal"
        ),
        Fact("Version", provenance.version),
    )


def _costs(settings: BacktestSettings) -> tuple[Fact, ...]:
    execution = settings.execution
    timing = "the close of the deciding candle" if settings.fills.value == "close" else "the next candle's open"
    return (
        Fact("Fills at", timing),
        Fact("Half spread", f"{execution.half_spread_bps} bps"),
        Fact("Slippage", f"{execution.slippage_bps} bps"),
        Fact("Fee", f"{execution.taker_fee_rate * 100:f} % taker, {execution.maker_fee_rate * 100:f} % maker"),
        Fact("Share of a candle's volume", f"at most {words.percent(execution.volume_share_max, 0)}"),
        Fact("Starting money", f"{words.money(settings.capital)} {settings.quote_asset}"),
    )


def _sections(settings: BacktestSettings) -> tuple[tuple[str, tuple[Fact, ...]], ...]:
    found = []
    for name in ("rebalancer", "execution", "risk"):
        section: msgspec.Struct = getattr(settings, name)
        rows = tuple(Fact(key, _setting(getattr(section, key))) for key in section.__struct_fields__)
        found.append((name, rows))
    return tuple(found)


def _setting(value: object) -> str:
    if isinstance(value, tuple | list | set | frozenset):
        return ", ".join(_setting(one) for one in value) or words.DASH
    if value is None:
        return words.DASH
    if isinstance(value, msgspec.Struct):
        return json.dumps(msgspec.to_builtins(value))
    return str(value)


def _points(times: Sequence[int], lines: Sequence[Curve]) -> str:
    """Return what the pointer reads off the charts, as JSON that is safe within a script element."""
    frame = Frame(times[0], times[-1], 0.0, 1.0)
    own: list[float] = [value or 0.0 for value in lines[0].values]
    falls: list[Value] = drawdowns(lines[0].values)
    kept = thin(own)
    shown = {
        "names": [line.name for line in lines],
        "x": [round(frame.x(times[index]), 1) for index in kept],
        "time": [words.when(times[index]) for index in kept],
        "values": [
            [None if line.values[index] is None else round(line.values[index] or 0.0, 2) for index in kept]
            for line in lines
        ],
        "fall": [None if falls[index] is None else round(falls[index] or 0.0, 4) for index in kept],
    }
    text = json.dumps(shown, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
