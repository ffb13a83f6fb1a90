/*---
description = "Freshness and completeness by UTC day of what the marts are made of, one row per day and table, also where a table has no rows. Rows are those that were read; `samsara-etl status` and the audit tables tell which days were read at all."
partition_by = "day"
cluster_by = ["table_name"]
unique_key = ["day", "table_name"]

[[tests]]
not_null = ["table_name"]

[[tests]]
range = { column = "row_count", min = 0 }
---*/
WITH tables AS (
  SELECT unnest(make_array('fleet_trips', 'fleet_vehicles_fuel_energy', 'fleet_safety_events')) AS table_name, 'vehicle' AS kind
  UNION ALL
  SELECT unnest(make_array('fleet_hos_daily_logs', 'fleet_drivers_fuel_energy')), 'driver'
),

found AS (
  SELECT 'fleet_trips' AS table_name, _parent_id AS member_id, _extracted_at FROM raw.fleet_trips
  UNION ALL
  SELECT 'fleet_vehicles_fuel_energy', vehicle['id'], _extracted_at FROM raw.fleet_vehicles_fuel_energy
  UNION ALL
  SELECT 'fleet_safety_events', vehicle['id'], _extracted_at FROM raw.fleet_safety_events
  UNION ALL
  SELECT 'fleet_hos_daily_logs', driver['id'], _extracted_at FROM raw.fleet_hos_daily_logs
  UNION ALL
  SELECT 'fleet_drivers_fuel_energy', driver['id'], _extracted_at FROM raw.fleet_drivers_fuel_energy
),

listed AS (
  SELECT 'vehicle' AS kind, count(*) AS members FROM dim_vehicles
  UNION ALL
  SELECT 'driver', count(*) FROM dim_drivers
)

SELECT
  partition_day() AS day,                             -- the UTC day
  t.table_name,                                       -- the table, which has the name of its source
  max(t.kind) AS member_kind,                         -- what its rows belong to: vehicle or driver
  count(f.table_name) AS row_count,                   -- rows of the day that were read
  count(DISTINCT f.member_id) AS members,             -- vehicles or drivers with a row, also such that are not listed
  max(l.members) AS listed_members,                   -- vehicles or drivers that were listed when the day was derived
  round(100.0 * count(DISTINCT f.member_id) / NULLIF(max(l.members), 0), 2) AS completeness_percent, -- members over listed_members, percent; more than 100 if some are not listed any more
  max(f._extracted_at) AS last_read_time,             -- when the rows were read that are there; a read that finds the same rows leaves it as it is
  round((CAST(max(f._extracted_at) AS BIGINT) - CAST(CAST(partition_day() AS TIMESTAMP) AS BIGINT) / 1000) / 3600000000.0 - 24, 4) AS read_after_hours -- from the end of the day to last_read_time, hours
FROM tables AS t
INNER JOIN listed AS l ON l.kind = t.kind
LEFT JOIN found AS f ON f.table_name = t.table_name
GROUP BY t.table_name
