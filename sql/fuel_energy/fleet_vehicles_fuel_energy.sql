/*---
description = "Fuel and energy use, one row per vehicle and UTC day. Still changes for about three days."
partition_by = "date"
cluster_by = ["vehicle_id"]
unique_key = ["vehicle_id", "date"]
---*/
SELECT DISTINCT
  _window_start AS date,                              -- the UTC day of the report
  vehicle['id'] AS vehicle_id,                        -- Samsara's vehicle id
  vehicle['name'] AS parc_id,                         -- the fleet's own number for the vehicle
  vehicle['energyType'] AS vehicle_energyType,        -- fuel, hybrid or electric
  to_json(vehicle['externalIds']) AS vehicle_externalIds, -- all external ids, as JSON text
  distanceTraveledMeters,                             -- distance in metres
  efficiencyMpge,                                     -- miles per gallon (equivalent)
  energyUsedKwh,                                      -- electric energy in kilowatt-hours
  engineIdleTimeDurationMs,                           -- idling time in milliseconds
  engineRunTimeDurationMs,                            -- engine time in milliseconds
  estCarbonEmissionsKg,                               -- estimated carbon dioxide in kilograms
  estFuelEnergyCost['amount'] AS estFuelEnergyCost_amount,             -- estimated cost
  estFuelEnergyCost['currencyCode'] AS estFuelEnergyCost_currencyCode, -- its currency
  fuelConsumedMl                                      -- fuel in millilitres
FROM raw.fleet_vehicles_fuel_energy
