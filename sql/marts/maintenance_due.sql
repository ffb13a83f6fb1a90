/*---
description = "Preventive maintenance that is due or coming, with the names of schedule and vehicle: one row per schedule and asset, as of the last snapshot. Overdue is what has a negative rest of days, distance or engine hours."
cluster_by = ["asset_id"]
unique_key = ["schedule_id", "asset_id"]

[[tests]]
not_null = ["asset_id"]
---*/
SELECT
  u.schedule_id,                                      -- the schedule; joins maintenance_preventive_schedules.id
  s.title AS schedule_title,                          -- its title
  u.asset_id,                                         -- Samsara's asset id; of a vehicle its vehicle id, which joins dim_vehicles.vehicle_id
  v.vehicle_name,                                     -- the fleet's own number, if the asset is a vehicle
  u.status,                                           -- how far it has come
  u.dueInDays AS due_in_days,                         -- days until it is due; negative if it is overdue
  round(u.dueInOdometer / 1000.0, 1) AS due_in_km,    -- kilometres until it is due
  u.dueInEngineHours AS due_in_engine_hours,          -- hours of running until it is due
  coalesce(least(u.dueInDays, u.dueInOdometer, u.dueInEngineHours) < 0, false) AS is_overdue, -- whether any of these is negative
  u.nextTime AS next_time,                            -- when it is due by the calendar
  round(u.currentOdometer / 1000.0, 1) AS odometer_km, -- odometer at present, kilometres
  u.currentEngineHours AS engine_hours,               -- running time of the engine at present, hours
  u.lastResolvedAt AS last_done_at,                   -- when it was last done
  u.workOrder_id AS work_order_id                     -- work order that was made for it
FROM maintenance_preventive_upcoming AS u
LEFT JOIN maintenance_preventive_schedules AS s ON s.id = u.schedule_id
LEFT JOIN dim_vehicles AS v ON v.vehicle_id = u.asset_id
