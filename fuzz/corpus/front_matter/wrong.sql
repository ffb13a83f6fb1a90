/*---
descripton = "d"
---*/
SELECT id FROM raw.r