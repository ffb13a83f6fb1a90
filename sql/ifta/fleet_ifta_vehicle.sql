/*---
description = "Fuel tax report (IFTA) by vehicle, one row per month, vehicle and jurisdiction."
partition_by = "date"
cluster_by = ["vehicle_id"]
unique_key = ["date", "vehicle_id", "jurisdiction"]
---*/
SELECT DISTINCT
  date,                                               -- first day of the month; the month is cut in the time zone of the organisation
  vehicle_id,                                         -- Samsara's vehicle id
  vehicle_name,                                       -- its name
  vehicle_externalIds,                                -- all external ids of the vehicle, as JSON text
  item['jurisdiction'] AS jurisdiction,               -- the jurisdiction, such as GA
  item['totalMeters'] AS totalMeters,                 -- distance driven there, meters
  item['taxableMeters'] AS taxableMeters,             -- distance that is taxed, meters
  item['taxPaidLiters'] AS taxPaidLiters              -- fuel on which the tax is paid, liters
FROM (
  SELECT
    date,
    report['vehicle']['id'] AS vehicle_id,
    report['vehicle']['name'] AS vehicle_name,
    to_json(report['vehicle']['externalIds']) AS vehicle_externalIds,
    unnest(report['jurisdictions']) AS item
  FROM (
    SELECT CAST(_window_start AS DATE) AS date, unnest(vehicleReports) AS report
    FROM raw.fleet_ifta_vehicle
  )
)
WHERE item IS NOT NULL
