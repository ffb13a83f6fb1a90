/*---
description = "d"
---*/
SELECT id FROM raw.s JOIN raw.raw.s USING (id)
