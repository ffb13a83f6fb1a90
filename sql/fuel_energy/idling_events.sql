/*---
description = "Idling events of assets, one row per event."
partition_by = "startTime"
cluster_by = ["asset_id"]
unique_key = ["eventUuid"]
---*/
SELECT DISTINCT
  eventUuid,                                          -- Samsara's id of the event
  samsara_time(startTime) AS startTime,               -- when the idling began
  durationMilliseconds,                               -- how long it lasted, milliseconds
  asset['id'] AS asset_id,                            -- Samsara's asset id; of a vehicle its vehicle id
  to_json(asset['externalIds']) AS asset_externalIds, -- all external ids of the asset, as JSON text
  operator['id'] AS driver_id,                        -- Samsara's driver id of who operated it
  to_json(operator['externalIds']) AS driver_externalIds, -- all external ids of the driver, as JSON text
  address['id'] AS address_id,                        -- address of the organisation at this place
  address['addressTypes'] AS address_types,           -- types of the address, as JSON text
  to_json(address['externalIds']) AS address_externalIds, -- all external ids of the address, as JSON text
  latitude,                                           -- degrees north
  longitude,                                          -- degrees east
  ptoState,                                           -- power take-off: active or inactive
  airTemperatureMillicelsius,                         -- air temperature, thousandths of a degree Celsius
  fuelConsumedMilliliters,                            -- fuel consumed, millilitres
  TRY_CAST(fuelCost['amount'] AS DOUBLE) AS fuelCost_amount, -- its cost, in the currency given next to it
  fuelCost['currency'] AS fuelCost_currency,          -- currency of the cost
  gaseousFuelConsumedGrams,                           -- gaseous fuel consumed, grams
  TRY_CAST(gaseousFuelCost['amount'] AS DOUBLE) AS gaseousFuelCost_amount, -- its cost, in the currency given next to it
  gaseousFuelCost['currency'] AS gaseousFuelCost_currency -- currency of the cost
FROM raw.idling_events
