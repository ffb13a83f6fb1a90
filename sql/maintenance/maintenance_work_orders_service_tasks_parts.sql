/*---
description = "Parts that tasks of work orders use, one row per order, task and part."
partition_by = "createdAtTime"
cluster_by = ["work_order_id"]
unique_key = ["work_order_id", "task_id", "id"]
---*/
SELECT DISTINCT
  work_order_id,                                      -- the order; joins maintenance_work_orders.id
  task_id,                                            -- the task; joins maintenance_work_orders_service_tasks.id
  samsara_time(createdAtTime) AS createdAtTime,       -- when the order was made
  part['id'] AS id,                                   -- Samsara's id of the part in this task
  part['partId'] AS part_id,                          -- the part
  part['quantity'] AS quantity,                       -- how many of it
  part['costCentsOverride'] AS costCentsOverride      -- what one costs here, in cents, if not as usual
FROM (
  SELECT work_order_id, createdAtTime, item['id'] AS task_id, unnest(item['parts']) AS part
  FROM (
    SELECT id AS work_order_id, createdAtTime, unnest(serviceTaskInstances) AS item
    FROM raw.maintenance_work_orders
  )
)
