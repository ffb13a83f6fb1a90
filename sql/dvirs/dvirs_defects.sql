/*---
description = "Which defects inspection reports have found, one row per report and defect."
partition_by = "dvirSubmissionTime"
cluster_by = ["dvir_id"]
unique_key = ["dvir_id", "defect_id"]
---*/
SELECT DISTINCT
  dvir_id,                                            -- the report; joins dvirs.id
  samsara_time(dvirSubmissionTime) AS dvirSubmissionTime, -- when the report was submitted
  defect_id                                           -- the defect; joins defects.id
FROM (
  SELECT id AS dvir_id, dvirSubmissionTime, unnest(defectIds) AS defect_id
  FROM raw.dvirs
)
