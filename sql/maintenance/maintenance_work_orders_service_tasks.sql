/*---
description = "Tasks of work orders, one row per order and task."
partition_by = "createdAtTime"
cluster_by = ["work_order_id"]
unique_key = ["work_order_id", "id"]
---*/
SELECT DISTINCT
  work_order_id,                                      -- the order; joins maintenance_work_orders.id
  samsara_time(createdAtTime) AS createdAtTime,       -- when the order was made
  item['id'] AS id,                                   -- Samsara's id of the task in this order
  item['serviceTaskId'] AS service_task_id,           -- what is done; joins maintenance_service_tasks.id
  item['status'] AS status,                           -- Open, In Progress, Completed and others
  item['notes'] AS notes,                             -- what was written about it
  item['laborTimeMinutes'] AS laborTimeMinutes,       -- work, in minutes
  CAST(item['laborHourlyCost']['amount'] AS DOUBLE) AS laborHourlyCost_amount, -- cost of an hour of work: amount
  item['laborHourlyCost']['currency'] AS laborHourlyCost_currency, -- and its currency, such as usd
  CAST(item['partsCost']['amount'] AS DOUBLE) AS partsCost_amount, -- cost of the parts: amount
  item['partsCost']['currency'] AS partsCost_currency -- and its currency, such as usd
FROM (
  SELECT id AS work_order_id, createdAtTime, unnest(serviceTaskInstances) AS item
  FROM raw.maintenance_work_orders
)
