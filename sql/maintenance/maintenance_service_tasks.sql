/*---
description = "Service tasks, one row per task, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the task
  name,                                               -- its name
  description,                                        -- what is to be done
  category,                                           -- category of the task
  subcategory,                                        -- its subcategory
  estimatedLaborTimeMinutes,                          -- labour that it takes, minutes
  TRY_CAST(estimatedPartsCost['amount'] AS DOUBLE) AS estimatedPartsCost_amount, -- cost of its parts, in the currency given next to it
  estimatedPartsCost['currency'] AS estimatedPartsCost_currency -- currency of the cost
FROM raw.maintenance_service_tasks
