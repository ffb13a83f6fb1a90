/*---
description = "Events that electronic logging devices recorded, one row per driver and event."
partition_by = "time"
cluster_by = ["driver_id"]
---*/
SELECT DISTINCT
  driver_id,                                          -- Samsara's driver id
  driver_name,                                        -- full name
  driverActivationStatus,                      -- active or deactivated
  driver_externalIds,                                 -- all external ids of the driver, as JSON text
  samsara_time(event['time']) AS time,                -- when it happened
  event['eldEventType'] AS eldEventType,              -- type of event, by number as the ELD mandate (7.25) has it
  event['eldEventCode'] AS eldEventCode,              -- code within the type (7.20)
  event['eldEventRecordOrigin'] AS eldEventRecordOrigin, -- who recorded it: 1 the device, 2 the driver, 3 another user, 4 the unidentified driver (7.22)
  event['eldEventRecordStatus'] AS eldEventRecordStatus, -- 1 active, 2 inactive by change, 3 change requested, 4 change rejected (7.23)
  event['malfunctionDiagnosticCode'] AS malfunctionDiagnosticCode, -- which malfunction or data diagnostic event (7.34)
  event['accumulatedVehicleMeters'] AS accumulatedVehicleMeters, -- distance since the ignition was turned on, meters
  event['totalVehicleMeters'] AS totalVehicleMeters,  -- odometer of the vehicle, meters
  event['elapsedEngineHours'] AS elapsedEngineHours,  -- running time since the ignition was turned on, hours
  event['totalEngineHours'] AS totalEngineHours,      -- running time of the engine ever, hours
  event['location']['latitude'] AS location_latitude, -- degrees north
  event['location']['longitude'] AS location_longitude, -- degrees east
  event['location']['city'] AS location_city,         -- city
  event['location']['state'] AS location_state,       -- state
  event['location']['eldLocation'] AS location_eldLocation, -- place relative to the next larger town
  event['remark']['comment'] AS remark_comment,       -- remark of the driver
  event['remark']['locationDescription'] AS remark_locationDescription, -- place as the driver gave it
  samsara_time(event['remark']['time']) AS remark_time, -- when the remark was made
  event['vehicle']['id'] AS vehicle_id,               -- Samsara's vehicle id
  event['vehicle']['name'] AS vehicle_name,           -- its name
  to_json(event['vehicle']['externalIds']) AS vehicle_externalIds -- all external ids of the vehicle, as JSON text
FROM (
  SELECT
    id AS driver_id,
    name AS driver_name,
    driverActivationStatus,
    to_json(externalIds) AS driver_externalIds,
    unnest(eldEvents) AS event
  FROM raw.fleet_hos_eld_events
)
WHERE event IS NOT NULL
