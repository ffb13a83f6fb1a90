/*---
description = "One row per thing."
partition_by = "time"
cluster_by = ["id", 'b']
unique_key = ["id"]
drop = []
hash = ["name"]
partition_expiration_days = 30
labels = { team = "x" }
history = false
---*/
WITH t AS (SELECT id, "name" FROM raw.s)
SELECT
  id, -- its id
  CASE WHEN name = 'a''b' THEN CAST(NULL AS VARCHAR) ELSE lower(name) END AS name, -- é
  /* what /* ever */ */ x[1]['k'] AS k,
  a.b.c
FROM t JOIN raw.s AS s USING (id)
WHERE id <> 1 AND name IN (SELECT name FROM raw.s) OR id::BIGINT BETWEEN -1 AND 2
UNION ALL SELECT * FROM raw.s
ORDER BY 1;
