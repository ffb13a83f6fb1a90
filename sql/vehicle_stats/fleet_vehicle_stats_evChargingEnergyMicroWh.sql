/*---
description = "Energy charged into electric and hybrid vehicles, one row per reading."
partition_by = "time"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "time"]
---*/
SELECT DISTINCT
  vehicle_id,                                         -- Samsara's vehicle id
  parc_id,                                            -- the fleet's own number for the vehicle
  samsara_time(reading['time']) AS time,              -- when it was read
  reading['value'] AS evChargingEnergyMicroWh         -- microwatt-hours taken from the charger
FROM (
  SELECT id AS vehicle_id, name AS parc_id, unnest(evChargingEnergyMicroWh) AS reading
  FROM raw.fleet_vehicle_stats_evChargingEnergyMicroWh
)
