/*---
description = "Types of defects, one row per type, as of the last snapshot."
unique_key = ["id"]
---*/
SELECT DISTINCT
  id,                                                 -- Samsara's id of the type
  label,                                              -- its name
  sectionType,                                        -- part of the vehicle to which it belongs
  severity,                                           -- major, minor or notApplicable
  samsara_time(createdAtTime) AS createdAtTime        -- when the type was made
FROM raw.defect_types
