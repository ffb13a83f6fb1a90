/*---
description = "Safety of drivers on a day, best first: one row per driver and day with a distance. Of longer periods, add up events and distance and divide then."
partition_by = "day"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "day"]

[[tests]]
range = { column = "safety_rank", min = 1 }
---*/
SELECT
  day,                                                -- the day
  driver_id,                                          -- Samsara's driver id; joins dim_drivers.driver_id
  driver_name,                                        -- full name, as of the derivation of the day
  distance_km,                                        -- distance of trips that started on the day, kilometres
  safety_events,                                      -- safety events
  violations,                                         -- hours-of-service violations
  round(1000 * safety_events / distance_km, 2) AS safety_events_per_1000_km, -- safety events per 1000 kilometres
  rank() OVER (ORDER BY safety_events / distance_km, violations, distance_km DESC) AS safety_rank -- place among the drivers of the day; the same for drivers with the same figures
FROM driver_daily
WHERE driver_id IS NOT NULL AND distance_km > 0
