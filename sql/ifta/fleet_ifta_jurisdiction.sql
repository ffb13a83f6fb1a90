/*---
description = "Fuel tax report (IFTA), one row per month and jurisdiction."
partition_by = "date"
unique_key = ["date", "jurisdiction"]
---*/
SELECT DISTINCT
  date,                                               -- first day of the month; the month is cut in the time zone of the organisation
  item['jurisdiction'] AS jurisdiction,               -- the jurisdiction, such as GA
  item['totalMeters'] AS totalMeters,                 -- distance driven there, meters
  item['taxableMeters'] AS taxableMeters,             -- distance that is taxed, meters
  item['taxPaidLiters'] AS taxPaidLiters              -- fuel on which the tax is paid, liters
FROM (
  SELECT CAST(_window_start AS DATE) AS date, unnest(jurisdictionReports) AS item
  FROM raw.fleet_ifta_jurisdiction
)
WHERE item IS NOT NULL
