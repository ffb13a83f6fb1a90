/*---
description = "d"
---*/
SELECT id FROM raw.s
