/*---
description = "Fuel and energy use, one row per driver and UTC day. Still changes for about three days."
partition_by = "date"
cluster_by = ["driver_id"]
unique_key = ["driver_id", "date"]
---*/
SELECT DISTINCT
  _window_start AS date,                              -- the UTC day of the report
  driver['id'] AS driver_id,                          -- Samsara's driver id
  driver['name'] AS driver_name,                      -- full name
  to_json(driver['externalIds']) AS driver_externalIds, -- all external ids, as JSON text
  distanceTraveledMeters,                             -- distance in metres
  efficiencyMpge,                                     -- miles per gallon (equivalent)
  energyUsedKwh,                                      -- electric energy in kilowatt-hours
  engineIdleTimeDurationMs,                           -- idling time in milliseconds
  engineRunTimeDurationMs,                            -- engine time in milliseconds
  estCarbonEmissionsKg,                               -- estimated carbon dioxide in kilograms
  estFuelEnergyCost['amount'] AS estFuelEnergyCost_amount,             -- estimated cost
  estFuelEnergyCost['currencyCode'] AS estFuelEnergyCost_currencyCode, -- its currency
  fuelConsumedMl                                      -- fuel in millilitres
FROM raw.fleet_drivers_fuel_energy
