/*---
description = "What is wrong with the data of the fuel tax report (IFTA), one row per month."
partition_by = "date"
unique_key = ["date"]
---*/
SELECT DISTINCT
  CAST(_window_start AS DATE) AS date,                -- first day of the month; joins fleet_ifta_jurisdiction.date
  troubleshooting['noPurchasesFound'] AS noPurchasesFound, -- whether no purchase of fuel was found
  troubleshooting['unassignedFuelTypePurchases'] AS unassignedFuelTypePurchases, -- purchases without a type of fuel
  troubleshooting['unassignedFuelTypeVehicles'] AS unassignedFuelTypeVehicles, -- vehicles without a type of fuel
  troubleshooting['unassignedVehiclePurchases'] AS unassignedVehiclePurchases -- purchases without a vehicle
FROM raw.fleet_ifta_jurisdiction
WHERE troubleshooting IS NOT NULL
