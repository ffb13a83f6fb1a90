/*---
description = "Digital auxiliary inputs, one row per change of an input."
partition_by = "time"
cluster_by = ["vehicle_id", "input"]
unique_key = ["vehicle_id", "input", "time"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  input,                                              -- number of the input, 1 to 13
  samsara_time(reading['time']) AS time,              -- when it changed
  reading['name'] AS name,                            -- what is connected to it
  reading['value'] AS value                           -- whether it is on
FROM (
  SELECT id AS vehicle_id, name AS parc_id, 1 AS input, unnest(auxInput1) AS reading FROM raw.fleet_vehicle_stats_auxInput1
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 2 AS input, unnest(auxInput2) AS reading FROM raw.fleet_vehicle_stats_auxInput2
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 3 AS input, unnest(auxInput3) AS reading FROM raw.fleet_vehicle_stats_auxInput3
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 4 AS input, unnest(auxInput4) AS reading FROM raw.fleet_vehicle_stats_auxInput4
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 5 AS input, unnest(auxInput5) AS reading FROM raw.fleet_vehicle_stats_auxInput5
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 6 AS input, unnest(auxInput6) AS reading FROM raw.fleet_vehicle_stats_auxInput6
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 7 AS input, unnest(auxInput7) AS reading FROM raw.fleet_vehicle_stats_auxInput7
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 8 AS input, unnest(auxInput8) AS reading FROM raw.fleet_vehicle_stats_auxInput8
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 9 AS input, unnest(auxInput9) AS reading FROM raw.fleet_vehicle_stats_auxInput9
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 10 AS input, unnest(auxInput10) AS reading FROM raw.fleet_vehicle_stats_auxInput10
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 11 AS input, unnest(auxInput11) AS reading FROM raw.fleet_vehicle_stats_auxInput11
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 12 AS input, unnest(auxInput12) AS reading FROM raw.fleet_vehicle_stats_auxInput12
  UNION ALL
  SELECT id AS vehicle_id, name AS parc_id, 13 AS input, unnest(auxInput13) AS reading FROM raw.fleet_vehicle_stats_auxInput13
)
