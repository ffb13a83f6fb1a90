/*---
description = "Days for joins with tables by day, one row per calendar day from calendar_first_day to calendar_last_day of settings.toml."
unique_key = ["day"]

[[tests]]
not_null = ["day", "week_start", "day_begin_time"]

[[tests]]
range = { column = "iso_weekday", min = 1, max = 7 }
---*/
WITH days AS (
  SELECT unnest(generate_series(
    CAST(setting('calendar_first_day') AS DATE), CAST(setting('calendar_last_day') AS DATE), INTERVAL '1 day'
  )) AS at
  FROM (SELECT count(*) AS organizations FROM organization) AS once
)
SELECT
  CAST(at AS DATE) AS day,                            -- the calendar day
  CAST(date_part('year', at) AS BIGINT) AS year,      -- its year
  CAST(date_part('quarter', at) AS BIGINT) AS quarter, -- its quarter, 1 to 4
  CAST(date_part('month', at) AS BIGINT) AS month,    -- its month, 1 to 12
  CAST(date_part('day', at) AS BIGINT) AS day_of_month, -- the day in the month, 1 to 31
  CAST(date_part('week', at) AS BIGINT) AS iso_week,  -- week of ISO 8601, 1 to 53
  CAST(date_part('isoyear', at) AS BIGINT) AS iso_year, -- year of that week
  CAST(date_part('isodow', at) AS BIGINT) AS iso_weekday, -- day of the week, 1 (Monday) to 7 (Sunday)
  CAST(date_part('isodow', at) AS BIGINT) >= 6 AS is_weekend, -- whether it is a Saturday or Sunday
  CAST(date_trunc('week', at) AS DATE) AS week_start, -- Monday of its week
  CAST(date_trunc('month', at) AS DATE) AS month_start, -- first day of its month; joins fuel_monthly.month
  CAST(at AS TIMESTAMP) AT TIME ZONE setting('time_zone') AS day_begin_time -- when the day begins in the organisation's time zone
FROM days
