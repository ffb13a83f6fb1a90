/*---
description = "What work orders came from, one row per order and item."
partition_by = "createdAtTime"
cluster_by = ["work_order_id"]
unique_key = ["work_order_id", "id", "type"]
---*/
SELECT DISTINCT
  work_order_id,                                      -- the order; joins maintenance_work_orders.id
  samsara_time(createdAtTime) AS createdAtTime,       -- when the order was made
  item['id'] AS id,                                   -- Samsara's id of the item: a defect, a fault, a form
  item['type'] AS type                                -- what it is, such as DVIR, FAULT or FORM
FROM (
  SELECT id AS work_order_id, createdAtTime, unnest(items) AS item
  FROM raw.maintenance_work_orders
)
