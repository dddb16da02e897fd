-- Written by `python -m shared.store.questdb.schema`; the recorder creates all of it by itself.

CREATE TABLE IF NOT EXISTS "trades" (
    "ts" TIMESTAMP_NS,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "trade_id" VARCHAR,
    "side" SYMBOL,
    "price" DOUBLE,
    "quantity" DOUBLE,
    "ts_recv_ns" LONG,
    "sequence" LONG
) TIMESTAMP("ts") PARTITION BY DAY TTL 90 DAYS WAL DEDUP UPSERT KEYS("ts", "venue", "instrument", "trade_id");

CREATE TABLE IF NOT EXISTS "bbo" (
    "ts" TIMESTAMP_NS,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "bid_price" DOUBLE,
    "bid_quantity" DOUBLE,
    "ask_price" DOUBLE,
    "ask_quantity" DOUBLE,
    "ts_recv_ns" LONG,
    "sequence" LONG
) TIMESTAMP("ts") PARTITION BY DAY TTL 30 DAYS WAL DEDUP UPSERT KEYS("ts", "venue", "instrument", "sequence");

CREATE TABLE IF NOT EXISTS "books" (
    "ts" TIMESTAMP_NS,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "bids" DOUBLE[][],
    "asks" DOUBLE[][],
    "ts_recv_ns" LONG,
    "sequence" LONG
) TIMESTAMP("ts") PARTITION BY HOUR TTL 7 DAYS WAL DEDUP UPSERT KEYS("ts", "venue", "instrument", "sequence");

CREATE TABLE IF NOT EXISTS "bars" (
    "ts" TIMESTAMP_NS,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "timeframe" SYMBOL,
    "open_time_ns" LONG,
    "open" DOUBLE,
    "high" DOUBLE,
    "low" DOUBLE,
    "close" DOUBLE,
    "volume" DOUBLE,
    "quote_volume" DOUBLE,
    "ts_recv_ns" LONG,
    "sequence" LONG,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "venue", "instrument", "timeframe");

CREATE TABLE IF NOT EXISTS "bars_closed" (
    "ts" TIMESTAMP_NS,
    "venue" SYMBOL,
    "timeframe" SYMBOL,
    "instruments" VARCHAR,
    "missing" VARCHAR,
    "step" LONG,
    "final" BOOLEAN,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "venue", "timeframe");

CREATE TABLE IF NOT EXISTS "instruments" (
    "ts" TIMESTAMP_NS,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "base" SYMBOL,
    "quote" SYMBOL,
    "tick_size" VARCHAR,
    "step_size" VARCHAR,
    "quantity_min" VARCHAR,
    "notional_min" VARCHAR,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "venue", "instrument");

CREATE TABLE IF NOT EXISTS "market_status" (
    "ts" TIMESTAMP_NS,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "state" SYMBOL,
    "reason" VARCHAR,
    "subject" SYMBOL,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "venue", "instrument", "state");

CREATE TABLE IF NOT EXISTS "signals" (
    "ts" TIMESTAMP_NS,
    "strategy" SYMBOL,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "direction" SYMBOL,
    "strength" DOUBLE,
    "confidence" DOUBLE,
    "features" VARCHAR,
    "reason" VARCHAR,
    "subject" SYMBOL,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "strategy", "venue", "instrument");

CREATE TABLE IF NOT EXISTS "order_intents" (
    "ts" TIMESTAMP_NS,
    "intent_id" VARCHAR,
    "strategy" SYMBOL,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "side" SYMBOL,
    "type" SYMBOL,
    "quantity" VARCHAR,
    "quote_amount" VARCHAR,
    "limit_price" VARCHAR,
    "price_bound" VARCHAR,
    "time_in_force" SYMBOL,
    "expires_at_ns" LONG,
    "reason" VARCHAR,
    "correlation_id" VARCHAR,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "intent_id");

CREATE TABLE IF NOT EXISTS "order_approvals" (
    "ts" TIMESTAMP_NS,
    "intent_id" VARCHAR,
    "strategy" SYMBOL,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "side" SYMBOL,
    "type" SYMBOL,
    "quantity" VARCHAR,
    "quote_amount" VARCHAR,
    "limit_price" VARCHAR,
    "intent_price_bound" VARCHAR,
    "time_in_force" SYMBOL,
    "decided_at_ns" LONG,
    "intent_expires_at_ns" LONG,
    "reason" VARCHAR,
    "correlation_id" VARCHAR,
    "approval_id" VARCHAR,
    "quantity_max" VARCHAR,
    "notional_max_usdt" VARCHAR,
    "price_bound" VARCHAR,
    "expires_at_ns" LONG,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "intent_id", "approval_id");

CREATE TABLE IF NOT EXISTS "order_refusals" (
    "ts" TIMESTAMP_NS,
    "intent_id" VARCHAR,
    "strategy" SYMBOL,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "correlation_id" VARCHAR,
    "code" SYMBOL,
    "detail" VARCHAR,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "intent_id");

CREATE TABLE IF NOT EXISTS "order_events" (
    "ts" TIMESTAMP_NS,
    "event_id" VARCHAR,
    "intent_id" VARCHAR,
    "client_order_id" VARCHAR,
    "venue_order_id" VARCHAR,
    "strategy" SYMBOL,
    "venue" SYMBOL,
    "instrument" SYMBOL,
    "side" SYMBOL,
    "type" SYMBOL,
    "state" SYMBOL,
    "quantity" VARCHAR,
    "quote_amount" VARCHAR,
    "limit_price" VARCHAR,
    "filled_quantity" VARCHAR,
    "filled_quote" VARCHAR,
    "fill_id" VARCHAR,
    "fill_price" VARCHAR,
    "fill_quantity" VARCHAR,
    "fill_fee" VARCHAR,
    "fill_fee_asset" SYMBOL,
    "fill_liquidity" SYMBOL,
    "fill_ts_event_ns" LONG,
    "reason" VARCHAR,
    "correlation_id" VARCHAR,
    "ledger_sequence" LONG,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "event_id");

CREATE TABLE IF NOT EXISTS "risk_states" (
    "ts" TIMESTAMP_NS,
    "state" SYMBOL,
    "changed_by" SYMBOL,
    "reason" VARCHAR,
    "correlation_id" VARCHAR,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "state", "correlation_id");

CREATE TABLE IF NOT EXISTS "risk_halts" (
    "ts" TIMESTAMP_NS,
    "demanded_by" SYMBOL,
    "reason" VARCHAR,
    "correlation_id" VARCHAR,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "demanded_by", "correlation_id");

CREATE TABLE IF NOT EXISTS "accounts" (
    "ts" TIMESTAMP_NS,
    "venue" SYMBOL,
    "account" SYMBOL,
    "ledger_sequence" LONG,
    "balances" VARCHAR,
    "positions" VARCHAR,
    "equity_usdt" VARCHAR,
    "fees_paid_usdt" VARCHAR,
    "open_orders" LONG,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "venue", "account", "ledger_sequence");

CREATE TABLE IF NOT EXISTS "decisions" (
    "ts" TIMESTAMP_NS,
    "decision_id" VARCHAR,
    "service" SYMBOL,
    "strategy" SYMBOL,
    "venue" SYMBOL,
    "action" SYMBOL,
    "correlation_id" VARCHAR,
    "inputs" VARCHAR,
    "outcome" VARCHAR,
    "notes" VARCHAR,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "decision_id");

CREATE TABLE IF NOT EXISTS "commands" (
    "ts" TIMESTAMP_NS,
    "verb" SYMBOL,
    "user" SYMBOL,
    "reason" VARCHAR,
    "correlation_id" VARCHAR,
    "arguments" VARCHAR,
    "subject" SYMBOL,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "verb", "correlation_id");

CREATE TABLE IF NOT EXISTS "command_replies" (
    "ts" TIMESTAMP_NS,
    "ok" BOOLEAN,
    "detail" VARCHAR,
    "correlation_id" VARCHAR,
    "result" VARCHAR,
    "subject" SYMBOL
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "correlation_id");

CREATE TABLE IF NOT EXISTS "command_audits" (
    "ts" TIMESTAMP_NS,
    "service" SYMBOL,
    "verb" SYMBOL,
    "user" SYMBOL,
    "reason" VARCHAR,
    "correlation_id" VARCHAR,
    "arguments" VARCHAR,
    "sent_at_ns" LONG,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "service", "verb", "correlation_id");

CREATE TABLE IF NOT EXISTS "heartbeats" (
    "ts" TIMESTAMP_NS,
    "service" SYMBOL,
    "instance" SYMBOL,
    "build" SYMBOL,
    "schema_hash" SYMBOL,
    "pid" LONG,
    "ready" BOOLEAN,
    "detail" VARCHAR,
    "started_at_ns" LONG,
    "subject" SYMBOL,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY DAY TTL 7 DAYS WAL DEDUP UPSERT KEYS("ts", "service", "instance");

CREATE TABLE IF NOT EXISTS "progress" (
    "ts" TIMESTAMP_NS,
    "service" SYMBOL,
    "venue" SYMBOL,
    "subject" SYMBOL,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH TTL 12 MONTHS WAL DEDUP UPSERT KEYS("ts", "service", "venue");

CREATE TABLE IF NOT EXISTS "dead_letters" (
    "ts" TIMESTAMP_NS,
    "service" SYMBOL,
    "dead_subject" VARCHAR,
    "reason" VARCHAR,
    "payload" VARCHAR,
    "subject" SYMBOL,
    "stream" SYMBOL,
    "stream_sequence" LONG,
    "message_hash" LONG,
    "recorded_at_ns" LONG
) TIMESTAMP("ts") PARTITION BY MONTH WAL DEDUP UPSERT KEYS("ts", "service", "dead_subject", "stream_sequence");

CREATE MATERIALIZED VIEW IF NOT EXISTS "trades_1m" WITH BASE "trades" REFRESH EVERY 1m AS (SELECT ts, venue, instrument, arg_min(price, (CAST(ts AS LONG) % 60000000000) * 134217728 + sequence % 134217728) AS open, max(price) AS high, min(price) AS low, arg_max(price, (CAST(ts AS LONG) % 60000000000) * 134217728 + sequence % 134217728) AS close, sum(quantity) AS volume, sum(price * quantity) AS quote_volume, count() AS trades FROM "trades" SAMPLE BY 1m ALIGN TO CALENDAR) PARTITION BY MONTH;

CREATE MATERIALIZED VIEW IF NOT EXISTS "trades_5m" WITH BASE "trades_1m" REFRESH IMMEDIATE AS (SELECT ts, venue, instrument, first(open) AS open, max(high) AS high, min(low) AS low, last(close) AS close, sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trades) AS trades FROM "trades_1m" SAMPLE BY 5m ALIGN TO CALENDAR) PARTITION BY MONTH;

CREATE MATERIALIZED VIEW IF NOT EXISTS "trades_15m" WITH BASE "trades_5m" REFRESH IMMEDIATE AS (SELECT ts, venue, instrument, first(open) AS open, max(high) AS high, min(low) AS low, last(close) AS close, sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trades) AS trades FROM "trades_5m" SAMPLE BY 15m ALIGN TO CALENDAR) PARTITION BY MONTH;

CREATE MATERIALIZED VIEW IF NOT EXISTS "trades_1h" WITH BASE "trades_15m" REFRESH IMMEDIATE AS (SELECT ts, venue, instrument, first(open) AS open, max(high) AS high, min(low) AS low, last(close) AS close, sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trades) AS trades FROM "trades_15m" SAMPLE BY 1h ALIGN TO CALENDAR) PARTITION BY MONTH;

CREATE MATERIALIZED VIEW IF NOT EXISTS "trades_4h" WITH BASE "trades_1h" REFRESH IMMEDIATE AS (SELECT ts, venue, instrument, first(open) AS open, max(high) AS high, min(low) AS low, last(close) AS close, sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trades) AS trades FROM "trades_1h" SAMPLE BY 4h ALIGN TO CALENDAR) PARTITION BY MONTH;

CREATE MATERIALIZED VIEW IF NOT EXISTS "trades_1d" WITH BASE "trades_4h" REFRESH IMMEDIATE AS (SELECT ts, venue, instrument, first(open) AS open, max(high) AS high, min(low) AS low, last(close) AS close, sum(volume) AS volume, sum(quote_volume) AS quote_volume, sum(trades) AS trades FROM "trades_4h" SAMPLE BY 1d ALIGN TO CALENDAR) PARTITION BY MONTH;
