/*---
description = "Work orders as they are now, one row per order."
partition_by = "createdAtTime"
cluster_by = ["asset_id"]
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the order
  assetId AS asset_id,                                -- Samsara's asset id; joins assets.id
  status,                                             -- Open, Assigned, In Progress, Completed, Closed, Cancelled and others
  priority,                                           -- Low, Medium, High or Urgent
  category,                                           -- kind of work
  description,                                        -- what is to be done
  closingNotes,                                       -- what was written at the end
  samsara_time(createdAtTime) AS createdAtTime,       -- when it was made
  createdByUserId,                                    -- who made it; joins fleet_users.id
  assignedUserId,                                     -- who is to do it; joins fleet_users.id
  samsara_time(dueAtTime) AS dueAtTime,               -- until when it is to be done
  samsara_time(completedAtTime) AS completedAtTime,   -- when it was done
  samsara_time(archivedAtTime) AS archivedAtTime,     -- when it was archived
  samsara_time(updatedAtTime) AS updatedAtTime,       -- when it was last changed
  odometerMeters,                                     -- odometer of the asset, in meters
  engineHours,                                        -- engine hours of the asset
  invoiceNumber,                                      -- number of the invoice
  poNumber,                                           -- number of the purchase order
  vendorUuid,                                         -- who does it
  maintenanceSite['name'] AS maintenanceSite_name,    -- where it is done
  maintenanceSite['placeId'] AS maintenanceSite_placeId, -- Samsara's id of that place
  discount['basisPoints'] AS discount_basisPoints,    -- discount, in hundredths of a percent
  CAST(discount['money']['amount'] AS DOUBLE) AS discount_money_amount, -- discount: amount
  discount['money']['currency'] AS discount_money_currency, -- and its currency, such as usd
  tax['basisPoints'] AS tax_basisPoints,              -- tax, in hundredths of a percent
  CAST(tax['money']['amount'] AS DOUBLE) AS tax_money_amount, -- tax: amount
  tax['money']['currency'] AS tax_money_currency,     -- and its currency, such as usd
  unallocatedLabor['timeMinutes'] AS unallocatedLabor_timeMinutes, -- work that belongs to no task, in minutes
  CAST(unallocatedLabor['cost']['amount'] AS DOUBLE) AS unallocatedLabor_cost_amount, -- cost of that: amount
  unallocatedLabor['cost']['currency'] AS unallocatedLabor_cost_currency, -- and its currency, such as usd
  attachments,                                        -- files, as JSON text; their addresses expire
  to_json(externalIds) AS externalIds                 -- all external ids of the order, as JSON text
FROM raw.maintenance_work_orders
